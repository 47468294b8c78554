//! Requests at a fixed rate: load ADDRESS CONNECTIONS RATE SECONDS. Prints one line of JSON, times in milliseconds.
//!
//! An open loop: each connection draws when its next request is due, as independent clients come (exponential pauses),
//! whatever became of those before. A request's time runs from when it was due, also where the answer before it was
//! late, so that a slow answer hides none of those that had to wait for it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

/// Not counted, at the beginning: connections come up.
const WARM_UP: Duration = Duration::from_millis(200);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, connections, rate, seconds] = arguments.as_slice() else {
        panic!("usage: load ADDRESS CONNECTIONS RATE SECONDS");
    };
    let connections: usize = connections.parse().expect("CONNECTIONS is a number");
    let rate: f64 = rate.parse().expect("RATE is a number of requests a second");
    let length = Duration::from_secs_f64(seconds.parse().expect("SECONDS is a number"));
    let start = Arc::new(Barrier::new(connections));
    let threads: Vec<_> = (0..connections)
        .map(|number| {
            let (address, start) = (address.clone(), start.clone());
            let pause = connections as f64 / rate;
            thread::spawn(move || {
                let stream = TcpStream::connect(&address).expect("the address takes connections");
                stream.set_nodelay(true).expect("a socket takes options");
                start.wait();
                ask(stream, &address, pause, length, number as u64)
            })
        })
        .collect();
    let mut times: Vec<Duration> = Vec::new();
    for thread in threads {
        times.extend(thread.join().expect("every request is answered"));
    }
    times.sort_unstable();
    let quantile = |q: f64| times[((times.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    println!(
        "{{\"rps\": {:.0}, \"requests\": {}, \"p50\": {:.4}, \"p99\": {:.4}, \"p999\": {:.4}}}",
        times.len() as f64 / length.as_secs_f64(),
        times.len(),
        quantile(0.5),
        quantile(0.99),
        quantile(0.999)
    );
}

/// The times of the requests of one connection, `pause` seconds apart on average.
fn ask(mut stream: TcpStream, host: &str, pause: f64, length: Duration, seed: u64) -> Vec<Duration> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut random = seed;
    let begun = Instant::now();
    let mut due = Duration::ZERO;
    let mut times = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        due += Duration::from_secs_f64(-pause * (1.0 - draw(&mut random)).ln());
        if due >= WARM_UP + length {
            return times;
        }
        thread::sleep(due.saturating_sub(begun.elapsed()));
        stream.write_all(request.as_bytes()).expect("a request is taken");
        answer(&mut stream, &mut buffer);
        if due >= WARM_UP {
            times.push(begun.elapsed() - due);
        }
    }
}

/// Reads one answer to its end, which its content-length tells.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).expect("an answer comes");
        assert!(count > 0, "the connection ended within an answer");
        filled += count;
        let text = &buffer[..filled];
        let Some(head) = text.windows(4).position(|part| part == b"\r\n\r\n") else {
            continue;
        };
        let head_text = std::str::from_utf8(&text[..head]).expect("a head is text");
        assert!(head_text.starts_with("HTTP/1.1 200"), "{head_text}");
        let body = head_text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.parse::<usize>().ok())
            .expect("an answer says its length");
        if filled == head + 4 + body {
            return;
        }
    }
}

/// SplitMix64, uniform over [0, 1).
fn draw(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
