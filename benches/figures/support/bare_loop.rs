//! The reference of the fan-outs: a loop that does nothing but write the same frame to as many sockets, while one thread
//! reads them as the listeners do.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mio::{Events, Interest, Poll, Token};

use super::cpu;

/// Both ends of each socket are in this process, which may have 20,000 files open.
const MOST: usize = 8000;

/// CPU of the writing thread for each frame.
pub fn cpu_a_frame(sockets: usize, frame: &[u8], rounds: usize) -> Duration {
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
    let reading = std::thread::spawn(move || read_all(readers, &seen, &stopped));
    let mut spent = Duration::ZERO;
    for round in 1..=rounds {
        let before = cpu::of_this_thread();
        for writer in &mut writers {
            writer.write_all(frame).unwrap();
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

fn read_all(readers: Vec<TcpStream>, seen: &AtomicUsize, stop: &AtomicBool) {
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
            if let Ok(read) = readers[event.token().0].read(&mut buffer) {
                seen.fetch_add(read, Ordering::Relaxed);
            }
        }
    }
}
