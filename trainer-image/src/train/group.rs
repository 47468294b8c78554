//! Data-parallel workers over TCP: rank 0 adds up the gradients in the order of ranks, so that the same workers
//! always get the same sum, and hands it back.
//!
//! Frames are a length (8 bytes, little-endian) and that many bytes. A worker that goes away closes its
//! connection, at the latest when keep-alive finds it silent; then everybody stops.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::thread::sleep;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use slipway_contract::{Failure, FailureReason, Workers};
use socket2::{SockRef, TcpKeepalive};

use super::compute::{Sums, failure};
use super::tensors::{numbers_from_bytes, numbers_to_bytes};
use crate::stop::Stop;

/// How long workers wait for one another at the start: pods of one job may start minutes apart.
const GATHERING: Duration = Duration::from_mins(15);
const RETRY: Duration = Duration::from_millis(200);
/// First bytes of a connection, so that a stray client is not taken for a worker.
const GREETING: &[u8; 8] = b"slipway1";

/// The workers of a run.
#[derive(Debug)]
pub(super) enum Group {
    /// One worker.
    Alone,
    /// Rank 0, with the connections of ranks 1, 2, …
    Leader(Vec<TcpStream>),
    /// Any other rank, with its connection to rank 0.
    Member { rank: usize, leader: TcpStream },
}

/// What rank 0 decides between steps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// Another step.
    Step,
    /// Told to stop; the checkpoint is written.
    Interrupted,
    /// Nothing is left to do.
    Finished,
}

/// The sums of all workers, and whether any of them was told to stop.
pub(super) struct Reduced {
    pub sums: Sums,
    pub stop: bool,
}

impl Group {
    /// Brings the workers together. `rank` is this one's; `digest` must be the same for all: it stands for
    /// configuration and data.
    pub fn gather(workers: &Workers, rank: usize, digest: &str, stop: &Stop) -> Result<Self, Failure> {
        if workers.count <= 1 {
            return Ok(Self::Alone);
        }
        let count = workers.count as usize;
        let address = workers.coordinator.as_deref().ok_or_else(|| {
            invalid(
                "workers.count is above 1 but workers.coordinator is not set; set it to host:port of rank 0",
            )
        })?;
        if rank >= count {
            return Err(invalid(format!(
                "JOB_COMPLETION_INDEX is {rank}, but there are only {count} workers; ranks count from 0"
            )));
        }
        let deadline = Instant::now() + GATHERING;
        if rank == 0 {
            lead(address, count, digest, deadline, stop)
        } else {
            join(address, rank, digest, deadline, stop)
        }
    }

    /// This worker's rank.
    pub fn rank(&self) -> usize {
        match self {
            Self::Alone | Self::Leader(_) => 0,
            Self::Member { rank, .. } => *rank,
        }
    }

    /// Whether this worker evaluates, writes checkpoints and publishes.
    pub fn leads(&self) -> bool {
        !matches!(self, Self::Member { .. })
    }

    /// Hands bytes of rank 0 to everybody.
    pub fn share(&mut self, make: impl FnOnce() -> io::Result<Vec<u8>>) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Alone => Ok(None),
            Self::Leader(members) => {
                let bytes =
                    make().map_err(|error| Failure::new(FailureReason::Internal, error.to_string()))?;
                for (member, rank) in members.iter_mut().zip(1..) {
                    send(member, &bytes).map_err(|error| lost(rank, &error))?;
                }
                Ok(None)
            }
            Self::Member { leader, .. } => receive(leader).map(Some).map_err(|error| lost(0, &error)),
        }
    }

    /// Everybody does what rank 0 decides.
    pub fn agree(&mut self, decision: Next) -> Result<Next, Failure> {
        let code = |next| match next {
            Next::Step => 0u8,
            Next::Interrupted => 1,
            Next::Finished => 2,
        };
        Ok(match self.share(|| Ok(vec![code(decision)]))?.as_deref() {
            None => decision,
            Some([0]) => Next::Step,
            Some([1]) => Next::Interrupted,
            Some(_) => Next::Finished,
        })
    }

    /// Adds up the sums of all workers.
    pub fn reduce(
        &mut self,
        mut sums: Sums,
        mut stop: bool,
        shapes: &[Vec<usize>],
        device: &Device,
    ) -> Result<Reduced, Failure> {
        match self {
            Self::Alone => {}
            Self::Leader(members) => {
                for (member, rank) in members.iter_mut().zip(1..) {
                    let frame = receive(member).map_err(|error| lost(rank, &error))?;
                    let (theirs, stopped) = unpack(&frame, shapes, device)?;
                    sums.merge(theirs)?;
                    stop |= stopped;
                }
                let frame = pack(&sums, stop)?;
                for (member, rank) in members.iter_mut().zip(1..) {
                    send(member, &frame).map_err(|error| lost(rank, &error))?;
                }
            }
            Self::Member { leader, .. } => {
                send(leader, &pack(&sums, stop)?).map_err(|error| lost(0, &error))?;
                let frame = receive(leader).map_err(|error| lost(0, &error))?;
                (sums, stop) = unpack(&frame, shapes, device)?;
            }
        }
        Ok(Reduced { sums, stop })
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureReason::InvalidConfig, message)
}

fn lost(rank: usize, error: &io::Error) -> Failure {
    Failure::new(
        FailureReason::WorkerLost,
        format!(
            "worker {rank} went away ({error}); the group stops and resumes from the newest checkpoint when it is started again"
        ),
    )
}

fn lead(address: &str, count: usize, digest: &str, deadline: Instant, stop: &Stop) -> Result<Group, Failure> {
    let port = address
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse::<u16>().ok())
        .ok_or_else(|| {
            invalid(format!(
                "workers.coordinator is `{address}`; set it to host:port, for instance trainer-0.trainer:7000"
            ))
        })?;
    // The name is how others reach this worker; it may not resolve here before the pod is ready.
    let listener = TcpListener::bind(("0.0.0.0", port)).map_err(|error| {
        Failure::new(
            FailureReason::Internal,
            format!("failed to listen on port {port} for the other workers: {error}"),
        )
    })?;
    let _ = listener.set_nonblocking(true);
    let mut members: Vec<Option<TcpStream>> = (1..count).map(|_| None).collect();
    while members.iter().any(Option::is_none) {
        stop.check()?;
        match listener.accept() {
            Ok((stream, _)) => {
                if let Some((rank, stream)) = greeted(stream, digest)?
                    && let Some(place) = members.get_mut(rank.wrapping_sub(1))
                {
                    *place = Some(stream);
                }
            }
            Err(_) if Instant::now() < deadline => sleep(RETRY),
            Err(_) => {
                let missing: Vec<String> = members
                    .iter()
                    .zip(1..)
                    .filter(|(member, _)| member.is_none())
                    .map(|(_, rank): (_, usize)| rank.to_string())
                    .collect();
                return Err(Failure::new(
                    FailureReason::WorkerLost,
                    format!(
                        "the workers {} did not come within {} s; check that their pods run",
                        missing.join(", "),
                        GATHERING.as_secs()
                    ),
                ));
            }
        }
    }
    Ok(Group::Leader(members.into_iter().flatten().collect()))
}

/// Reads a worker's greeting; None for a stranger.
fn greeted(mut stream: TcpStream, digest: &str) -> Result<Option<(usize, TcpStream)>, Failure> {
    let greeting = (|| -> io::Result<_> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut start = [0; 16];
        stream.read_exact(&mut start)?;
        let mut theirs = vec![0; digest.len()];
        stream.read_exact(&mut theirs)?;
        stream.set_read_timeout(None)?;
        prepare(&stream)?;
        Ok((start, theirs))
    })();
    let Ok((start, theirs)) = greeting else {
        return Ok(None);
    };
    if &start[..8] != GREETING {
        return Ok(None);
    }
    let rank = u64::from_le_bytes(start[8..].try_into().unwrap_or_default()) as usize;
    if theirs != digest.as_bytes() {
        return Err(Failure::new(
            FailureReason::InvalidConfig,
            format!(
                "worker {rank} has another configuration, model or data than worker 0; give all workers the same"
            ),
        ));
    }
    Ok(Some((rank, stream)))
}

fn join(address: &str, rank: usize, digest: &str, deadline: Instant, stop: &Stop) -> Result<Group, Failure> {
    loop {
        stop.check()?;
        let attempt = || -> io::Result<TcpStream> {
            let target = address
                .to_socket_addrs()?
                .next()
                .ok_or_else(|| io::Error::other("the name resolves to nothing"))?;
            let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
            prepare(&stream)?;
            stream.write_all(GREETING)?;
            stream.write_all(&(rank as u64).to_le_bytes())?;
            stream.write_all(digest.as_bytes())?;
            Ok(stream)
        };
        match attempt() {
            Ok(leader) => return Ok(Group::Member { rank, leader }),
            Err(_) if Instant::now() < deadline => sleep(RETRY),
            Err(error) => {
                return Err(Failure::new(
                    FailureReason::WorkerLost,
                    format!(
                        "worker 0 was not reached at {address} within {} s ({error}); check that its pod runs",
                        GATHERING.as_secs()
                    ),
                ));
            }
        }
    }
}

/// Small frames leave at once, and a node that vanished is noticed within a minute.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(20))
        .with_interval(Duration::from_secs(10))
        .with_retries(4);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(&(bytes.len() as u64).to_le_bytes())?;
    stream.write_all(bytes)
}

fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut bytes = Vec::new();
    // Grows as bytes arrive: a wrong length must not reserve memory that never comes.
    if stream.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Loss, count, tokens, stop, then each gradient after a byte that says whether there is one.
fn pack(sums: &Sums, stop: bool) -> Result<Vec<u8>, Failure> {
    let mut frame = Vec::new();
    frame.extend(sums.loss.to_le_bytes());
    frame.extend(sums.count.to_le_bytes());
    frame.extend(sums.tokens.to_le_bytes());
    frame.push(u8::from(stop));
    for gradient in &sums.gradients {
        frame.push(u8::from(gradient.is_some()));
        if let Some(gradient) = gradient {
            let bytes = numbers_to_bytes(gradient);
            frame.extend(bytes.map_err(|error| Failure::new(FailureReason::Internal, error.to_string()))?);
        }
    }
    Ok(frame)
}

fn unpack(frame: &[u8], shapes: &[Vec<usize>], device: &Device) -> Result<(Sums, bool), Failure> {
    let short = || {
        Failure::new(
            FailureReason::WorkerLost,
            "a worker sent a damaged message; use the same version of the image for all workers",
        )
    };
    let mut rest = frame;
    let mut take = |count: usize| -> Result<&[u8], Failure> {
        let (head, tail) = rest.split_at_checked(count).ok_or_else(short)?;
        rest = tail;
        Ok(head)
    };
    let mut eight = || -> Result<[u8; 8], Failure> { take(8)?.try_into().map_err(|_| short()) };
    let (loss, count, tokens) = (
        f64::from_le_bytes(eight()?),
        u64::from_le_bytes(eight()?),
        u64::from_le_bytes(eight()?),
    );
    let stop = take(1)? == [1];
    let mut gradients = Vec::with_capacity(shapes.len());
    for shape in shapes {
        gradients.push(if take(1)? == [1] {
            let numbers = numbers_from_bytes(take(4 * shape.iter().product::<usize>())?);
            Some(Tensor::from_vec(numbers, shape.as_slice(), device).map_err(failure)?)
        } else {
            None
        });
    }
    let sums = Sums {
        gradients,
        loss,
        count,
        tokens,
    };
    Ok((sums, stop))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(value: f32) -> Sums {
        Sums {
            gradients: vec![Some(Tensor::new(&[[value, 1.0]], &Device::Cpu).unwrap()), None],
            loss: f64::from(value),
            count: 2,
            tokens: 3,
        }
    }

    #[test]
    fn workers_get_the_sum_in_the_order_of_ranks() {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let workers = Workers {
            count: 3,
            coordinator: Some(format!("127.0.0.1:{port}")),
        };
        let run = |rank: usize| {
            let workers = workers.clone();
            std::thread::spawn(move || {
                let mut group = Group::gather(&workers, rank, "same", &Stop::default()).unwrap();
                let shapes = [vec![1, 2], vec![5]];
                let reduced = group
                    .reduce(sums(rank as f32), rank == 2, &shapes, &Device::Cpu)
                    .unwrap();
                assert_eq!(
                    group
                        .agree(if rank == 0 { Next::Finished } else { Next::Step })
                        .unwrap(),
                    Next::Finished
                );
                let gradient = reduced.sums.gradients[0]
                    .as_ref()
                    .unwrap()
                    .to_vec2::<f32>()
                    .unwrap();
                (
                    gradient,
                    reduced.sums.gradients[1].is_none(),
                    reduced.sums.loss,
                    reduced.sums.count,
                    reduced.stop,
                )
            })
        };
        let found: Vec<_> = [0, 1, 2]
            .map(run)
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        for one in found {
            assert_eq!(one, (vec![vec![3.0, 3.0]], true, 3.0, 6, true));
        }
    }

    #[test]
    fn a_worker_that_goes_away_is_named() {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let workers = Workers {
            count: 2,
            coordinator: Some(format!("127.0.0.1:{port}")),
        };
        let other = workers.clone();
        let member =
            std::thread::spawn(move || drop(Group::gather(&other, 1, "same", &Stop::default()).unwrap()));
        let mut group = Group::gather(&workers, 0, "same", &Stop::default()).unwrap();
        member.join().unwrap();
        let failure = group
            .reduce(sums(1.0), false, &[vec![1, 2], vec![5]], &Device::Cpu)
            .err()
            .unwrap();
        assert_eq!(failure.reason, FailureReason::WorkerLost);
        assert!(failure.message.contains("worker 1 went away"), "{failure}");
    }

    #[test]
    fn a_damaged_message_is_no_panic() {
        let frame = pack(&sums(1.0), false).unwrap();
        for cut in [0, 10, 25, frame.len() - 2] {
            assert!(unpack(&frame[..cut], &[vec![1, 2], vec![5]], &Device::Cpu).is_err());
        }
    }
}
