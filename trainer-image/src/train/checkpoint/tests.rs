use super::*;
use candle_core::{Device, Tensor};

fn snapshot(step: u64, best: bool) -> Snapshot {
    let tensor = |seed: f32| Tensor::new(&[[seed, 1.5], [f32::MIN_POSITIVE, -0.0]], &Device::Cpu).unwrap();
    let one = |name: &str| vec![(name.to_owned(), tensor(step as f32))];
    Snapshot {
        state: RunState {
            step,
            ..RunState::default()
        },
        weights: one("a.weight"),
        moments: one("first.a.weight"),
        best: best.then(|| one("a.weight")),
    }
}

fn store(directory: &Path) -> Store {
    let fingerprint = [("batchSize".to_owned(), "8".to_owned())].into();
    Store::open(directory, 2, fingerprint).unwrap()
}

fn newest(store: &Store) -> (Option<Snapshot>, Vec<String>) {
    let mut warnings = Vec::new();
    let snapshot = store.newest(&mut |warning| warnings.push(warning)).unwrap();
    (snapshot, warnings)
}

fn bits(tensors: &Tensors) -> Vec<u32> {
    let flat = tensors[0].1.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    flat.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn the_newest_comes_back_bit_by_bit_and_old_ones_go() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    assert!(newest(&store).0.is_none());
    for step in [5, 10, 15] {
        store.write(&snapshot(step, step == 15)).unwrap();
    }
    let (found, warnings) = newest(&store);
    let (found, expected) = (found.unwrap(), snapshot(15, true));
    assert_eq!(found.state, expected.state);
    assert_eq!(found.weights[0].0, "a.weight");
    assert_eq!(bits(&found.weights), bits(&expected.weights));
    assert_eq!(bits(&found.best.unwrap()), bits(&expected.best.unwrap()));
    assert!(warnings.is_empty());
    assert_eq!(
        store
            .list()
            .unwrap()
            .iter()
            .map(|(step, _)| *step)
            .collect::<Vec<_>>(),
        [10, 15]
    );
}

#[test]
fn a_checkpoint_cut_in_half_gives_way_to_the_one_before() {
    for victim in [WEIGHTS, MOMENTS, STATE, MANIFEST] {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        store.write(&snapshot(5, false)).unwrap();
        store.write(&snapshot(10, false)).unwrap();
        let path = directory.path().join("step-00000010").join(victim);
        let length = fs::metadata(&path).unwrap().len();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length / 2)
            .unwrap();
        let (found, warnings) = newest(&store);
        assert_eq!(found.unwrap().state.step, 5, "{victim}");
        assert!(warnings[0].contains("step-00000010 is damaged"), "{warnings:?}");
        // The damaged one does not stand in the way of a new one.
        store.write(&snapshot(10, false)).unwrap();
        assert_eq!(newest(&store).0.unwrap().state.step, 10);
    }
}

#[test]
fn one_flipped_bit_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    store.write(&snapshot(5, false)).unwrap();
    let path = directory.path().join("step-00000005").join(WEIGHTS);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let (found, warnings) = newest(&store);
    assert!(found.is_none() && warnings[0].contains("SHA-256"), "{warnings:?}");
}

#[test]
fn another_configuration_is_refused_with_both_values() {
    let directory = tempfile::tempdir().unwrap();
    store(directory.path()).write(&snapshot(5, false)).unwrap();
    let other = Store::open(
        directory.path(),
        2,
        [("batchSize".to_owned(), "16".to_owned())].into(),
    )
    .unwrap();
    let failure = other.newest(&mut |_| {}).unwrap_err();
    assert_eq!(failure.reason, FailureReason::CheckpointMismatch);
    assert!(failure.message.contains("batchSize was 8, now 16"), "{failure}");
}

#[test]
fn what_was_half_written_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let left = directory.path().join(".writing-00000005");
    fs::create_dir(&left).unwrap();
    fs::write(left.join(WEIGHTS), "half").unwrap();
    let store = store(directory.path());
    assert!(!left.exists() && newest(&store).0.is_none());
}
