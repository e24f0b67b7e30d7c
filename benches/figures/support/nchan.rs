//! The cost of a service that only passes a message on: Nchan in nginx, if both are installed. It has the same
//! listeners, and as many workers as there are cores. It stores nothing, asks for no receipt, and checks no token.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    cpu::Cpu,
    frames,
    listeners::{Listeners, Opening},
};

/// The pause between two messages, as between two events.
const PAUSE: Duration = Duration::from_secs(1);
const NGINX_TIMEOUT: Duration = Duration::from_secs(10);

struct Nginx {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Nginx {
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let at = folder.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {at}/{what};\n"))
            .concat();
        let config = format!(
            "load_module modules/ngx_nchan_module.so;\n\
             worker_processes auto;\nworker_rlimit_nofile 20000;\ndaemon off;\npid {at}/pid;\nerror_log {at}/log;\n\
             events {{ worker_connections 20000; }}\n\
             http {{\naccess_log off;\n{temporary}nchan_shared_memory_size 256M;\nserver {{\nlisten {address};\n\
             location = /sub {{ nchan_subscriber websocket; nchan_channel_id all; nchan_websocket_ping_interval 0; }}\n\
             location = /pub {{ nchan_publisher; nchan_channel_id all; nchan_message_buffer_length 1; }}\n}}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut started = Self { child: nginx.spawn().ok()?, address, _folder: folder };
        let give_up = Instant::now() + NGINX_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            if started.child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < give_up, "it neither listens nor ends");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(started)
    }

    fn cpu(&self) -> Duration {
        Cpu::of_family(self.child.id()).all()
    }

    fn publish(&self, message: &[u8]) {
        let mut connection = TcpStream::connect(self.address).unwrap();
        let head =
            format!("POST /pub HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", message.len());
        connection.write_all(&[head.as_bytes(), message].concat()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Terminated, not killed, so that its workers end too.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// The CPU of all its processes for each frame of a message to so many sockets, in µs, for each round; empty if it is
/// not installed.
pub fn cpu_a_frame_us(sockets: usize, frame: &[u8], rounds: usize) -> Vec<f64> {
    let Some(nginx) = Nginx::start() else {
        eprintln!("nginx with Nchan is not installed, or does not start: no reference of it");
        return Vec::new();
    };
    let (_, message, _) = frames::first(frame).expect("a whole frame");
    let opening = Opening { path: "/sub".to_owned(), token: None, greeting: None };
    let listeners = Listeners::connect(nginx.address, vec![opening; sockets], "\"response_type\"");
    let found = (0..rounds).map(|_| {
        std::thread::sleep(PAUSE);
        let before = nginx.cpu();
        nginx.publish(message);
        listeners.wait_for(sockets, NGINX_TIMEOUT);
        std::thread::sleep(PAUSE);
        (nginx.cpu() - before).as_secs_f64() * 1e6 / sockets as f64
    });
    let found = found.collect();
    listeners.stop();
    found
}
