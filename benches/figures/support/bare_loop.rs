//! The reference of the fan-outs: a loop that does nothing but write the same frame to as many sockets, while one thread
//! reads them as the listeners do. And what a loop costs that also asks for receipt and reads the answer.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, unix::SourceFd};

use super::cpu;

/// Both ends of each socket are in this process, which may have 20,000 files open.
const MOST: usize = 8000;

/// What proves receipt, as long as ours: a ping with a number, and its pong with a mask.
const PING: [u8; 6] = [0; 6];
const PONG: [u8; 10] = [0; 10];

/// CPU of the writing thread for each frame.
pub fn cpu_a_frame(sockets: usize, frame: &[u8], rounds: usize) -> Duration {
    cpu(sockets, frame, rounds, false)
}

/// The same with so many frames in each write, a ping behind them, and the pong read.
pub fn cpu_a_proved_frame(sockets: usize, frame: &[u8], at_once: usize, rounds: usize) -> Duration {
    let frames = [frame.repeat(at_once), PING.to_vec()].concat();
    cpu(sockets, &frames, rounds, true) / u32::try_from(at_once).unwrap()
}

fn cpu(sockets: usize, frame: &[u8], rounds: usize, proved: bool) -> Duration {
    let sockets = sockets.min(MOST);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pairs = (0..sockets).map(|_| {
        let reader = TcpStream::connect(address).unwrap();
        let (writer, _) = listener.accept().unwrap();
        writer.set_nodelay(true).unwrap();
        (writer, reader)
    });
    let (mut writers, readers): (Vec<_>, Vec<_>) = pairs.unzip();
    let (bytes, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let (seen, stopped) = (Arc::clone(&bytes), Arc::clone(&stop));
    let reading = std::thread::spawn(move || read_all(readers, proved, &seen, &stopped));
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(1024);
    if proved {
        for (nth, writer) in writers.iter().enumerate() {
            let descriptor = writer.as_raw_fd();
            poll.registry().register(&mut SourceFd(&descriptor), Token(nth), Interest::READABLE).unwrap();
        }
    }
    let mut spent = Duration::ZERO;
    for round in 1..=rounds {
        let before = cpu::of_this_thread();
        for writer in &mut writers {
            writer.write_all(frame).unwrap();
        }
        let mut pongs = 0;
        while proved && pongs < sockets {
            poll.poll(&mut events, None).unwrap();
            for event in &events {
                pongs += usize::from(writers[event.token().0].read(&mut [0; 64]).unwrap() == PONG.len());
            }
        }
        spent += cpu::of_this_thread() - before;
        while bytes.load(Ordering::Relaxed) < round * sockets * frame.len() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    stop.store(true, Ordering::Relaxed);
    reading.join().unwrap();
    spent / u32::try_from(rounds * sockets).unwrap()
}

fn read_all(readers: Vec<TcpStream>, answers: bool, seen: &AtomicUsize, stop: &AtomicBool) {
    let mut poll = Poll::new().unwrap();
    let registered = readers.into_iter().enumerate().map(|(nth, reader)| {
        reader.set_nonblocking(true).unwrap();
        let mut reader = mio::net::TcpStream::from_std(reader);
        poll.registry().register(&mut reader, Token(nth), Interest::READABLE).unwrap();
        reader
    });
    let mut readers: Vec<_> = registered.collect();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(20))).unwrap();
        for event in &events {
            let reader = &mut readers[event.token().0];
            if let Ok(read) = reader.read(&mut buffer) {
                if answers {
                    reader.write_all(&PONG).unwrap();
                }
                seen.fetch_add(read, Ordering::Relaxed);
            }
        }
    }
}
