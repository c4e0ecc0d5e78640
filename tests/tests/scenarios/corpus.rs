//! The fuzz corpus, replayed: each seed, each seed cut short, and each seed with one byte changed.

#[path = "../../../fuzz/src/targets.rs"]
#[expect(
    unreachable_pub,
    reason = "public for the fuzzer's crate, which includes the same file"
)]
mod targets;

#[test]
fn every_seed_and_its_neighbours_are_read_without_a_panic() {
    for (name, target) in targets::ALL {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/corpus")
            .join(name);
        let mut seeds = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            neighbours(&seed, target);
            seeds += 1;
        }
        assert!(seeds > 0, "{name} has no seed");
    }
}

fn neighbours(seed: &[u8], target: targets::Target) {
    target(seed);
    for at in 0..seed.len() {
        target(&seed[..at]);
        let mut changed = seed.to_vec();
        for flip in [0x01, 0x20, 0x80, 0xff] {
            changed[at] = seed[at] ^ flip;
            target(&changed);
        }
    }
}
