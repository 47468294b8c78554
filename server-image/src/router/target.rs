//! The servers behind an address: found by name, and the one with least to do chosen.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hyper::http::uri::Authority;
use tokio::sync::futures::Notified;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::backend::{Backend, Standing};
use super::probe::{ROUND, probe_for_ever};

/// For how long a server without its name is asked where no other can answer. One that ended and came back has no name
/// until name servers forget that it was not ready, which takes them some seconds; beyond that its address may be
/// another's.
const FORMER: Duration = Duration::from_secs(10);
/// For how long after the last server was lost requests wait for one: another came back and is yet to be probed, or
/// this one is started again at once. What takes longer is told to the client.
const MISSED: Duration = Duration::from_secs(5);

/// An address and every server it stands for.
#[derive(Debug)]
pub struct Target {
    authority: Authority,
    backends: ArcSwap<Vec<Arc<Backend>>>,
    /// Those that lost the name, and when: asked only while no other can answer.
    former: ArcSwap<Vec<(Arc<Backend>, Instant)>>,
    standing: Arc<Standing>,
}

impl Target {
    /// An address about which nothing is known yet.
    pub fn new(authority: Authority) -> Self {
        Self {
            authority,
            backends: ArcSwap::default(),
            former: ArcSwap::default(),
            standing: Arc::default(),
        }
    }

    /// `host:port`.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Resolves once a server became ready, or whoever waits for one has another reason to look again.
    pub fn changed(&self) -> Notified<'_> {
        self.standing.changed.notified()
    }

    /// Lets those who wait look again.
    pub fn wake(&self) {
        self.standing.changed.notify_waiters();
    }

    /// Whether some server can answer.
    pub fn has_ready(&self) -> bool {
        self.backends.load().iter().any(|backend| backend.is_ready()) || self.ready_former().is_some()
    }

    /// Until when requests wait for a server, where none can answer since a moment ago.
    pub fn missed_until(&self) -> Option<Instant> {
        let until = self.standing.lost()? + MISSED;
        (Instant::now() < until).then_some(until)
    }

    fn ready_former(&self) -> Option<Arc<Backend>> {
        let former = self.former.load();
        let mut former = former.iter().map(|(backend, _)| backend);
        former.find(|backend| backend.is_ready()).cloned()
    }

    /// How many servers can.
    pub fn ready_count(&self) -> usize {
        self.backends
            .load()
            .iter()
            .filter(|backend| backend.is_ready())
            .count()
    }

    /// A server that can answer: by its name, or else one that lost it a moment ago.
    pub fn least_busy(&self) -> Option<Arc<Backend>> {
        self.least_busy_named().or_else(|| self.ready_former())
    }

    /// The ready server with the fewest requests under way. Among equals the search starts at a different one
    /// each time, so that the first of the list does not get every lone request.
    fn least_busy_named(&self) -> Option<Arc<Backend>> {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let backends = self.backends.load();
        let count = backends.len();
        if count == 1 {
            return backends.first().filter(|backend| backend.is_ready()).cloned();
        }
        let start = TURN.fetch_add(1, Ordering::Relaxed);
        (0..count)
            .map(|step| &backends[start.wrapping_add(step) % count])
            .filter(|backend| backend.is_ready())
            .min_by_key(|backend| backend.in_flight())
            .cloned()
    }

    /// Follows the name and probes its servers, for ever.
    pub async fn watch(self: Arc<Self>) {
        let mut probers: HashMap<SocketAddr, AbortHandle> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut complained = false;
        loop {
            rounds.tick().await;
            match self.resolve().await {
                Ok(found) => {
                    complained = false;
                    self.replace(&found, &mut probers, &mut tasks);
                }
                // The servers known so far are kept: a name server that fails takes no traffic away, and
                // servers that are gone fail their probes.
                Err(error) if !complained => {
                    tracing::warn!(host = %self.authority, %error, "the name cannot be resolved; keeping the servers known");
                    complained = true;
                }
                Err(_) => {}
            }
        }
    }

    async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let host = self
            .authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let port = self.authority.port_u16().unwrap_or(80);
        let mut found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn replace(
        &self,
        found: &[SocketAddr],
        probers: &mut HashMap<SocketAddr, AbortHandle>,
        tasks: &mut JoinSet<()>,
    ) {
        let (known, former) = (self.backends.load_full(), self.former.load_full());
        let mut next: Vec<Arc<Backend>> = found
            .iter()
            .map(|&address| {
                let former = former.iter().map(|(backend, _)| backend);
                (known.iter().chain(former))
                    .find(|backend| backend.address == address)
                    .cloned()
                    .unwrap_or_else(|| {
                        let backend = Arc::new(Backend::new(address, self.standing.clone()));
                        let probe = probe_for_ever(backend.clone(), self.authority.clone());
                        probers.insert(address, tasks.spawn(probe));
                        backend
                    })
            })
            .collect();
        // A name changes to servers that nobody has probed yet. Until one of them answers, those that lost the
        // name and answer all the same go on, so that a rollout never meets a moment without a server.
        if !next.iter().any(|backend| backend.is_ready()) {
            let leaving = known
                .iter()
                .filter(|backend| backend.is_ready() && !found.contains(&backend.address));
            next.extend(leaving.cloned());
        }
        let now = Instant::now();
        let lost = known.iter().map(|backend| (backend.clone(), now));
        let mut gone: Vec<_> = (former.iter().cloned().chain(lost))
            .filter(|(_, since)| now.duration_since(*since) < FORMER)
            .collect();
        let is_next = |address| next.iter().any(|backend| backend.address == address);
        gone.retain(|(backend, _)| !is_next(backend.address));
        let addresses =
            |backends: &[Arc<Backend>]| backends.iter().map(|backend| backend.address).collect::<Vec<_>>();
        if addresses(&known) == addresses(&next) && former.len() == gone.len() {
            return;
        }
        probers.retain(|address, prober| {
            let stays = is_next(*address) || gone.iter().any(|(backend, _)| backend.address == *address);
            if !stays {
                prober.abort();
            }
            stays
        });
        tracing::info!(host = %self.authority, servers = next.len(), "the servers of an address changed");
        self.backends.store(Arc::new(next));
        self.former.store(Arc::new(gone));
        // One of them may have answered its probe before it stood there.
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::super::backend::Busy;
    use super::*;

    #[tokio::test]
    async fn a_server_that_lost_its_name_goes_on_until_a_new_one_answers() {
        let target = Target::new("h:1".parse().unwrap());
        let (mut probers, mut tasks) = (HashMap::new(), JoinSet::new());
        let [old, new] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        target.replace(&[old], &mut probers, &mut tasks);
        target.backends.load()[0].set_ready(true, "");
        target.replace(&[new], &mut probers, &mut tasks);
        assert_eq!(target.least_busy().unwrap().address, old);
        target.backends.load()[0].set_ready(true, "");
        target.replace(&[new], &mut probers, &mut tasks);
        assert_eq!(target.backends.load().len(), 1);
        assert_eq!(target.least_busy().unwrap().address, new);
        assert_eq!(target.ready_count(), 1);
        // For a moment longer it is asked where nobody else can answer.
        target.backends.load()[0].refused();
        assert_eq!(target.least_busy().unwrap().address, old);
        assert!(target.has_ready());
        assert_eq!((target.ready_count(), probers.len()), (0, 2));
    }

    #[tokio::test]
    async fn a_server_that_ended_and_came_back_is_asked_before_its_name_is_back() {
        let target = Target::new("h:1".parse().unwrap());
        let (mut probers, mut tasks) = (HashMap::new(), JoinSet::new());
        let [one, two] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        target.replace(&[one, two], &mut probers, &mut tasks);
        let servers = target.backends.load_full();
        servers[1].set_ready(true, "");
        target.replace(&[two], &mut probers, &mut tasks);
        servers[0].set_ready(true, "");
        assert_eq!(target.least_busy().unwrap().address, two);
        servers[1].refused();
        assert_eq!(target.least_busy().unwrap().id, servers[0].id);
        target.replace(&[one, two], &mut probers, &mut tasks);
        assert_eq!(target.least_busy().unwrap().id, servers[0].id);
        assert_eq!((target.backends.load().len(), target.former.load().len()), (2, 0));
    }

    #[test]
    fn the_ready_server_with_least_to_do_is_taken() {
        let target = Target::new("h:1".parse().unwrap());
        assert!(!target.has_ready() && target.least_busy().is_none());
        let backends: Vec<_> = (1..=3)
            .map(|port| {
                Arc::new(Backend::new(
                    SocketAddr::from(([127, 0, 0, 1], port)),
                    Arc::default(),
                ))
            })
            .collect();
        target.backends.store(Arc::new(backends.clone()));
        assert!(target.least_busy().is_none());
        backends[0].set_ready(true, "");
        backends[1].set_ready(true, "");
        let busy = [Busy::new(backends[0].clone()), Busy::new(backends[2].clone())];
        assert_eq!(target.least_busy().unwrap().id, backends[1].id);
        backends[1].refused();
        assert_eq!(target.least_busy().unwrap().id, backends[0].id);
        drop(busy);
        backends[1].set_ready(true, "");
        let taken: std::collections::HashSet<u64> = (0..4).map(|_| target.least_busy().unwrap().id).collect();
        assert_eq!(taken.len(), 2, "lone requests all meet one server");
        assert_eq!(target.ready_count(), 2);
    }
}
