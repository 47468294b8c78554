//! Which arm a request goes to, and which revision of it: a draw, or what a client always meets. Pure.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Uniform over `[0, 1)`, the 53 bits that an `f64` holds.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// A hash that is the same in every process and release, so that routers side by side and after a restart send
/// a client to the same arm: FNV-1a, then the finalizer of `SplitMix64`, which spreads short keys over all bits.
pub fn hash(parts: [&[u8]; 2]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        for &byte in part {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // Keeps ("ab", "c") from ("a", "bc").
        state = (state ^ 0xff).wrapping_mul(0x0100_0000_01b3);
    }
    mix(state)
}

/// The finalizer of `SplitMix64`.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// An arm as a choice sees it.
#[derive(Clone, Copy, Debug)]
pub struct Arm<'a> {
    /// What its score is drawn from: the same name scores the same for a key, whatever the other arms are.
    pub name: &'a str,
    /// Its share; 0 is never chosen.
    pub weight: u32,
    /// Whether it has a server that can answer.
    pub ready: bool,
}

/// The arm of a client with `key`, by weighted rendezvous hashing (Schindelhauer and Schomaker 2005): each arm
/// scores −weight / ln(u) with u drawn by key and name, and the highest wins. Shares follow the weights of the
/// ready arms; a changed weight moves only the clients that the change is about.
pub fn sticky<'a>(arms: impl Iterator<Item = Arm<'a>>, key: &[u8]) -> Option<usize> {
    let mut best = None;
    for (index, arm) in arms.enumerate() {
        if arm.weight == 0 || !arm.ready {
            continue;
        }
        // Off both ends of the interval, where the logarithm is infinite or zero.
        let u = unit(hash([key, arm.name.as_bytes()])).clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        let score = -f64::from(arm.weight) / u.ln();
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((index, score));
        }
    }
    best.map(|(index, _)| index)
}

/// An arm drawn by weight among the ready ones, from 64 random bits.
pub fn drawn<'a>(arms: impl Iterator<Item = Arm<'a>> + Clone, random: u64) -> Option<usize> {
    let shares = arms.map(|arm| if arm.ready { u64::from(arm.weight) } else { 0 });
    let total: u64 = shares.clone().sum();
    if total == 0 {
        return None;
    }
    let mut point = ((u128::from(random) * u128::from(total)) >> 64) as u64;
    for (index, share) in shares.enumerate() {
        if point < share {
            return Some(index);
        }
        point -= share;
    }
    None
}

/// What a client's key is hashed with for its place in an arm that has a canary. The canary's revision is part of
/// it, so that each has guinea pigs of its own.
pub fn canary_salt(arm: &str, revision: &str) -> String {
    format!("{arm}@{revision}")
}

/// Whether 64 bits, drawn or the [`hash`] of a client's key, fall into the first `percent` of a hundred. The same
/// bits that are within one share are within every larger one: a share that grows only adds clients.
pub fn is_within(percent: u32, bits: u64) -> bool {
    unit(bits) < f64::from(percent) / 100.0
}

/// `SplitMix64`, seeded by the system through the standard library's hasher: a draw decides a split, not a secret.
#[derive(Debug)]
pub struct Draws(u64);

impl Draws {
    /// A sequence of its own.
    pub fn new() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

impl Default for Draws {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 4] = ["control", "candidate", "third", "fourth"];

    fn arms(weights: &[u32]) -> Vec<Arm<'static>> {
        weights
            .iter()
            .zip(NAMES)
            .map(|(&weight, name)| Arm {
                name,
                weight,
                ready: true,
            })
            .collect()
    }

    fn met(arms: &[Arm<'static>], client: u32) -> usize {
        sticky(arms.iter().copied(), format!("user-{client}").as_bytes()).unwrap()
    }

    /// Six standard deviations of a binomial count: a right split fails once in 10^9.
    fn bound(n: f64, p: f64) -> f64 {
        6.0 * (n * p * (1.0 - p)).sqrt() + 1.0
    }

    #[test]
    fn draws_follow_the_weights() {
        let arms = arms(&[80, 20]);
        let mut draws = Draws(7);
        let n = 100_000;
        let first = (0..n)
            .filter(|_| drawn(arms.iter().copied(), draws.draw()) == Some(0))
            .count();
        let off = (first as f64 - 0.8 * f64::from(n)).abs();
        assert!(off < bound(f64::from(n), 0.8), "{first}");
    }

    #[test]
    fn an_unready_arm_leaves_its_share_to_the_others() {
        let mut arms = arms(&[50, 30, 20, 0]);
        arms[0].ready = false;
        let mut draws = Draws(1);
        let n = 50_000;
        let mut counts = [0u32; 4];
        for _ in 0..n {
            counts[drawn(arms.iter().copied(), draws.draw()).unwrap()] += 1;
        }
        assert_eq!((counts[0], counts[3]), (0, 0));
        assert!(
            (f64::from(counts[1]) - 0.6 * f64::from(n)).abs() < bound(f64::from(n), 0.6),
            "{counts:?}"
        );
        let nobody = arms.iter().map(|arm| Arm { ready: false, ..*arm });
        assert_eq!(drawn(nobody.clone(), 5), None);
        assert_eq!(sticky(nobody, b"user"), None);
    }

    #[test]
    fn clients_of_an_unready_arm_spread_and_all_others_stay() {
        let before = arms(&[50, 30, 20]);
        let mut after = before.clone();
        after[0].ready = false;
        for client in 0..2000 {
            let (old, new) = (met(&before, client), met(&after, client));
            assert!(
                if old == 0 { new != 0 } else { new == old },
                "{client}: {old} to {new}"
            );
        }
    }

    #[test]
    fn sixty_forty_moves_a_tenth_and_only_one_way() {
        let (before, after) = (arms(&[50, 50]), arms(&[60, 40]));
        let n = 20_000;
        let mut moved = 0;
        for client in 0..n {
            match (met(&before, client), met(&after, client)) {
                (1, 0) => moved += 1,
                (0, 1) => panic!("client {client} left the arm that grew"),
                _ => {}
            }
        }
        assert!(
            (f64::from(moved) - 0.1 * f64::from(n)).abs() < bound(f64::from(n), 0.1),
            "{moved}"
        );
    }

    /// The clients of the arm "control" that meet its canary `revision`.
    fn guinea_pigs(clients: &[u32], revision: &str, percent: u32) -> HashSet<u32> {
        let salt = canary_salt("control", revision);
        let meets = |client: &u32| {
            let key = format!("user-{client}");
            is_within(percent, hash([key.as_bytes(), salt.as_bytes()]))
        };
        clients.iter().copied().filter(meets).collect()
    }

    #[test]
    fn a_growing_canary_only_adds_clients() {
        let clients: Vec<u32> = (0..10_000).collect();
        let mut before = HashSet::new();
        for percent in 0..=100 {
            let now = guinea_pigs(&clients, "r2", percent);
            assert!(now.is_superset(&before), "{percent} sent some back");
            let (n, p) = (10_000.0, f64::from(percent) / 100.0);
            assert!(
                (now.len() as f64 - p * n).abs() <= bound(n, p),
                "{percent}: {}",
                now.len()
            );
            before = now;
        }
        assert_eq!((guinea_pigs(&clients, "r2", 0).len(), before.len()), (0, 10_000));
    }

    #[test]
    fn each_revision_has_guinea_pigs_of_its_own_and_the_arm_does_not_choose_them() {
        // Only clients that the arm itself won: its own hash of a key must say nothing about the canary's.
        let arms = arms(&[20, 80]);
        let clients: Vec<u32> = (0..50_000).filter(|&client| met(&arms, client) == 0).collect();
        let n = clients.len() as f64;
        let (second, third) = (guinea_pigs(&clients, "r2", 10), guinea_pigs(&clients, "r3", 10));
        let both = second.intersection(&third).count() as f64;
        assert!(
            (second.len() as f64 - 0.1 * n).abs() < bound(n, 0.1),
            "{} of {n}",
            second.len()
        );
        assert!((both - 0.01 * n).abs() < bound(n, 0.01), "{both} of {n}");
    }

    #[test]
    fn the_hash_never_changes() {
        // A new release that sent clients elsewhere would spoil every experiment under way.
        // Computed by hand from the published definitions of both parts.
        assert_eq!(hash([b"user-1", b"control"]), 11134111415129133239);
        assert_ne!(hash([b"ab", b"c"]), hash([b"a", b"bc"]));
    }

    proptest! {
        #[test]
        fn shares_of_clients_follow_any_weights(weights in proptest::collection::vec(0u32..100, 2..=4)) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let arms = arms(&weights);
            let n = 4000;
            let mut counts = [0u32; 4];
            for client in 0..n {
                counts[met(&arms, client)] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let p = f64::from(*weight) / f64::from(total);
                prop_assert!((f64::from(*count) - p * f64::from(n)).abs() <= bound(f64::from(n), p), "{counts:?}");
            }
        }
    }
}
