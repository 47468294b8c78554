//! Python's `random.Random`, so that worked examples are the ones that lm-evaluation-harness draws. Pure.

/// Words of the generator's state.
const WORDS: usize = 624;
/// How far apart the words are that a new one is made of.
const APART: usize = 397;

/// MT19937 (Matsumoto and Nishimura, 1998), as CPython seeds and reads it.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: [u32; WORDS],
    next: usize,
}

impl Random {
    /// `random.Random(seed)`: `init_by_array` of the seed's words of 32 bits, the lowest first.
    pub fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let words = [low, high];
        let key = if high == 0 { &words[..1] } else { &words[..] };
        let mut state = [0u32; WORDS];
        state[0] = 19_650_218;
        for at in 1..WORDS {
            state[at] = mixed(state[at - 1], 1_812_433_253).wrapping_add(at as u32);
        }
        let (mut at, mut word) = (1, 0);
        for _ in 0..WORDS {
            state[at] = (state[at] ^ mixed(state[at - 1], 1_664_525))
                .wrapping_add(key[word])
                .wrapping_add(word as u32);
            at = following(&mut state, at);
            word = (word + 1) % key.len();
        }
        for _ in 1..WORDS {
            state[at] = (state[at] ^ mixed(state[at - 1], 1_566_083_941)).wrapping_sub(at as u32);
            at = following(&mut state, at);
        }
        state[0] = 1 << 31;
        Self { state, next: WORDS }
    }

    /// `sample(range(population), count)`; `count` is at most `population`.
    pub fn sample(&mut self, population: usize, count: usize) -> Vec<usize> {
        // CPython keeps the whole pool where that takes less room than a set of what was drawn.
        let mut room = 21;
        if count > 5 {
            let mut table = 1;
            while table < count * 3 {
                table *= 4;
            }
            room += table;
        }
        if population <= room {
            let mut pool: Vec<usize> = (0..population).collect();
            return (0..count)
                .map(|_| {
                    let place = self.below(pool.len());
                    pool.swap_remove(place)
                })
                .collect();
        }
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count {
            let place = self.below(population);
            if !drawn.contains(&place) {
                drawn.push(place);
            }
        }
        drawn
    }

    /// `_randbelow`: a number from 0 to below `limit`, which is above 0 and below 2³².
    fn below(&mut self, limit: usize) -> usize {
        let bits = usize::BITS - limit.leading_zeros();
        loop {
            let drawn = (self.word() >> (u32::BITS - bits)) as usize;
            if drawn < limit {
                return drawn;
            }
        }
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            self.turn();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn turn(&mut self) {
        for at in 0..WORDS {
            let joined = (self.state[at] & 1 << 31) | (self.state[(at + 1) % WORDS] & !(1 << 31));
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[at] = self.state[(at + APART) % WORDS] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }
}

fn mixed(word: u32, factor: u32) -> u32 {
    (word ^ (word >> 30)).wrapping_mul(factor)
}

/// The place after `at`; the last word is the one before the first when it comes to that one.
fn following(state: &mut [u32; WORDS], at: usize) -> usize {
    if at + 1 < WORDS {
        return at + 1;
    }
    state[0] = state[WORDS - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seed, population, count, and two draws.
    const EXPECTED: [(u64, usize, usize, [&[usize]; 2]); 6] = [
        (1234, 5, 2, [&[3, 0], &[0, 4]]),
        (1234, 400, 3, [&[398, 225, 59], &[3, 46, 298]]),
        (0, 22, 5, [&[12, 13, 1, 8, 16], &[15, 12, 9, 11, 18]]),
        (1234, 90, 6, [&[56, 14, 0, 11, 74, 4], &[85, 88, 10, 12, 45, 30]]),
        ((1 << 40) + 7, 30, 2, [&[19, 23], &[26, 20]]),
        (1, 1, 1, [&[0], &[0]]),
    ];
    const LAST: [usize; 9] = [388, 351, 252, 623, 977, 691, 332, 596, 700];

    #[test]
    fn draws_are_cpythons() {
        // python3: r = random.Random(SEED); [r.sample(range(N), K) for _ in range(2)]
        for (seed, population, count, expected) in EXPECTED {
            let mut random = Random::new(seed);
            for draw in expected {
                assert_eq!(
                    random.sample(population, count),
                    draw,
                    "{seed} {population} {count}"
                );
            }
        }
    }

    #[test]
    fn the_state_turns_over_as_cpythons() {
        // python3: r = random.Random(1234); [r.sample(range(1000), 9) for _ in range(500)][-1]
        let mut random = Random::new(1234);
        let last = (0..500).map(|_| random.sample(1000, 9)).last().unwrap();
        assert_eq!(last, LAST);
    }
}
