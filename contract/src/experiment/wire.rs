//! A tally as JSON: only what was met. Pure.

use serde::{Deserialize, Serialize};

use super::gram::{BUCKETS, Gram};
use super::split::{First, PLACES, Split, Users};
use super::tally::{ArmTally, Tally};

/// What a router says.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wire {
    arms: Vec<WireArm>,
    splits: Vec<WireSplit>,
    /// Place, milliseconds since 1970, split, arm.
    places: Vec<(usize, u64, usize, usize)>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct WireArm {
    #[serde(flatten)]
    sums: ArmTally,
    /// Bucket, weight, weighted score.
    buckets: Vec<(usize, f64, f64)>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct WireSplit {
    shares: Split,
    /// Requests without a key, by arm.
    alone: Vec<u64>,
}

impl From<Tally> for Wire {
    fn from(tally: Tally) -> Self {
        let Tally { arms, users, gram } = tally;
        let arms = arms.into_iter().enumerate().map(|(arm, sums)| WireArm {
            sums,
            buckets: gram
                .filled(arm)
                .map(|(bucket, [weight, weighted])| (bucket, weight, weighted))
                .collect(),
        });
        Self {
            arms: arms.collect(),
            splits: users
                .splits
                .into_iter()
                .map(|(shares, alone)| WireSplit { shares, alone })
                .collect(),
            places: users
                .places
                .into_iter()
                .map(|(place, First { at, split, arm })| (place, at, split, arm))
                .collect(),
        }
    }
}

/// The numbers contradict each other, which another version or a damaged file may cause.
#[derive(Debug, thiserror::Error)]
#[error(
    "the tally's {0} is out of range; the router that wrote it is of another version: run routers and operator of one release"
)]
pub struct WireError(&'static str);

impl TryFrom<Wire> for Tally {
    type Error = WireError;

    fn try_from(wire: Wire) -> Result<Self, WireError> {
        let arms = wire.arms.len();
        let fits = |holds: bool, what| if holds { Ok(()) } else { Err(WireError(what)) };
        let mut users = Users::default();
        for WireSplit { shares, alone } in wire.splits {
            fits(shares.arms() == arms && alone.len() == arms, "split")?;
            users.splits.push((shares, alone));
        }
        for (place, at, split, arm) in wire.places {
            fits(
                place < PLACES && split < users.splits.len() && arm < arms,
                "place",
            )?;
            users.places.insert(place, First { at, split, arm });
        }
        let mut gram = Gram::new(arms);
        let mut sums = Vec::with_capacity(arms);
        for (index, arm) in wire.arms.into_iter().enumerate() {
            gram.add_alone(index, arm.sums.alone);
            for (bucket, weight, weighted) in arm.buckets {
                fits(bucket < BUCKETS, "bucket")?;
                gram.add(bucket, index, [weight, weighted]);
            }
            sums.push(arm.sums);
        }
        Ok(Self {
            arms: sums,
            users,
            gram,
        })
    }
}
