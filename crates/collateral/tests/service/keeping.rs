//! What is fetched when, and what the disk holds.

use std::os::unix::fs::PermissionsExt;

use cocoon_attest::evidence::collateral::TdxCollateral;
use cocoon_attest::evidence::collateral::{CollateralStore, MAX_FAMILIES, Supply};
use cocoon_attest::evidence::lists::Bytes;
use cocoon_attest::evidence::tdx::Platform;
use cocoon_attest::evidence::tdx::TdxRoot;
use cocoon_collateral::DiskCache;
use cocoon_collateral::cache::CacheError;
use cocoon_collateral::keeper::{Failure, Keeper, MAX_AT_ONCE};
use cocoon_collateral::service::Authority;
use cocoon_softtee::SoftTdx;

use crate::pcs::{DAY, NOW};

const HOUR: u64 = 3_600;

fn platform(n: u16) -> Platform {
    let [a, b] = n.to_be_bytes();
    Authority::Platform.platform(Bytes([a, b, 0, 0, 0, 0]))
}

fn failure(is_unknown: bool) -> Failure {
    Failure {
        url: "https://x/tcb".to_owned(),
        reason: "status 500".to_owned(),
        is_unknown,
    }
}

fn collateral(tdx: &SoftTdx, issued: u64) -> TdxCollateral {
    TdxCollateral::from_json(&tdx.collateral_at(issued)).unwrap()
}

#[test]
fn what_is_held_is_refreshed_daily_and_well_before_its_end() {
    let tdx = SoftTdx::new(NOW);
    // A life of 30 days: half of it, 15 days, to two thirds, 20 days.
    let edition = collateral(&tdx, NOW).edition().unwrap();
    let p = platform(1);
    let due = |at: u64, jitter: f64| {
        let mut keeper = Keeper::default();
        keeper.held(at, &p, &edition, jitter);
        keeper.next_due().unwrap()
    };
    assert_eq!(due(NOW, 0.0), NOW + 20 * HOUR);
    assert_eq!(due(NOW, 1.0), NOW + DAY);
    // Found on disk after half of its life: soon, and not at once.
    assert_eq!(due(NOW + 14 * DAY, 1.0), NOW + 15 * DAY);
    assert_eq!(due(NOW + 15 * DAY, 0.0), NOW + 15 * DAY + HOUR);
    assert_eq!(due(NOW + 20 * DAY + 1, 1.0), NOW + 20 * DAY + 1 + HOUR);
    // Close to the end the pause does not reach it.
    let end = edition.expires;
    assert_eq!(due(end - HOUR, 0.5), end - HOUR + HOUR / 4);
    assert_eq!(due(end + DAY, 0.5), end + DAY + 60);
}

#[test]
fn a_peer_that_needs_it_has_it_fetched_once() {
    let mut keeper = Keeper::default();
    let p = platform(1);
    assert_eq!(keeper.take_due(NOW), []);
    assert_eq!(keeper.want(NOW, &p), Supply::Coming);
    assert_eq!(keeper.take_due(NOW), std::slice::from_ref(&p));
    assert_eq!(keeper.want(NOW, &p), Supply::Coming);
    assert_eq!(
        (keeper.take_due(NOW + DAY), keeper.next_due()),
        (vec![], None)
    );
    let tdx = SoftTdx::new(NOW);
    let edition = collateral(&tdx, NOW).edition().unwrap();
    keeper.fetched(NOW + 2, &p, &edition, 0.0);
    assert_eq!(keeper.next_due(), Some(NOW + 2 + 20 * HOUR));
    assert_eq!(keeper.troubles().count(), 0);
}

#[test]
fn failures_are_tried_again_with_growing_pauses_and_told_to_peers() {
    let mut keeper = Keeper::default();
    let p = platform(1);
    keeper.want(NOW, &p);
    let mut now = NOW;
    let mut pauses = Vec::new();
    for round in 0..10 {
        assert_eq!(keeper.take_due(now), std::slice::from_ref(&p));
        let is_first = keeper.failed(now, &p, failure(false), 1.0);
        assert_eq!(is_first, round == 0);
        let due = keeper.next_due().unwrap();
        pauses.push(due - now);
        // Whoever comes meanwhile does not hurry it.
        let Supply::Failing(trouble) = keeper.want(now, &p) else {
            panic!("a peer was told nothing");
        };
        assert_eq!(
            (trouble.since, trouble.reason.as_str()),
            (NOW, "status 500")
        );
        assert_eq!(keeper.next_due(), Some(due));
        assert_eq!(keeper.take_due(due - 1), []);
        now = due;
    }
    assert_eq!(pauses[..5], [4, 10, 20, 40, 80]);
    assert_eq!(pauses[9], 600);
    let text = keeper.troubles().next().unwrap().1.to_string();
    assert!(
        text.contains("since 2026-09-21T") && text.contains("https://x/tcb"),
        "{text}"
    );
    // What the service does not have is not asked for soon again; half of a pause is random.
    keeper.take_due(now);
    keeper.failed(now, &p, failure(true), 0.0);
    assert_eq!(keeper.next_due(), Some(now + HOUR / 2));
    let edition = collateral(&SoftTdx::new(NOW), NOW).edition().unwrap();
    keeper.take_due(now + HOUR);
    keeper.fetched(now + HOUR, &p, &edition, 0.0);
    assert_eq!(keeper.troubles().count(), 0);
}

#[test]
fn few_are_fetched_at_once_and_waiting_peers_come_first() {
    let edition = collateral(&SoftTdx::new(NOW), NOW).edition().unwrap();
    let mut keeper = Keeper::default();
    for n in 0..6 {
        keeper.held(NOW, &platform(n), &edition, 0.0);
    }
    keeper.want(NOW + 2 * DAY, &platform(9));
    let begun = keeper.take_due(NOW + 2 * DAY);
    assert_eq!(begun.len(), MAX_AT_ONCE);
    assert_eq!(begun[0], platform(9));
    assert_eq!(keeper.take_due(NOW + 2 * DAY), []);
    keeper.fetched(NOW + 2 * DAY, &platform(9), &edition, 0.0);
    assert_eq!(keeper.take_due(NOW + 2 * DAY).len(), 1);
}

#[test]
fn a_full_book_forgets_what_was_never_had() {
    let mut keeper = Keeper::default();
    let count = u16::try_from(MAX_FAMILIES).unwrap();
    for n in 0..count {
        assert_eq!(
            keeper.want(NOW + u64::from(n), &platform(n)),
            Supply::Coming
        );
    }
    assert_eq!(keeper.want(NOW, &platform(count)), Supply::Full);
    let first = keeper.take_due(NOW + DAY);
    assert_eq!(first.len(), MAX_AT_ONCE);
    for p in &first {
        keeper.failed(NOW + DAY, p, failure(true), 0.0);
    }
    assert_eq!(keeper.want(NOW, &platform(count)), Supply::Coming);
    assert_eq!(keeper.want(NOW, &platform(count)), Supply::Coming);
    assert_eq!(keeper.troubles().count(), MAX_AT_ONCE - 1);
}

#[test]
fn the_disk_keeps_the_newest_and_damaged_files_are_named() {
    let tdx = SoftTdx::new(NOW);
    let root = TdxRoot::pinned(tdx.root_sha256());
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("a/collateral");
    let cache = DiskCache::open(&directory).unwrap();
    let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let (old, new) = (collateral(&tdx, NOW - DAY), collateral(&tdx, NOW));
    let p = new.platform();
    cache.write(&p, &old.to_json()).unwrap();
    cache.write(&p, &new.to_json()).unwrap();
    let error = cache.write(&p, &old.to_json()).unwrap_err();
    assert!(matches!(error, CacheError::Newer { .. }), "{error}");
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(&directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["tdx-c0c00a000001-platform.json"]);
    let store = CollateralStore::under(root);
    let loaded = cache.load(&store).unwrap();
    assert_eq!((loaded.taken, loaded.ignored.len()), (1, 0));
    let (held, written) = (store.edition(&p), new.edition().ok());
    assert_eq!(held, written);

    // Half a file, a foreign one, and one that a crash left beside.
    let text = new.to_json();
    std::fs::write(directory.join("half.json"), &text[..text.len() / 2]).unwrap();
    let foreign = collateral(&SoftTdx::new(NOW), NOW).to_json();
    std::fs::write(directory.join("other.json"), foreign).unwrap();
    std::fs::write(directory.join("x.json.1.new"), "{").unwrap();
    let store = CollateralStore::under(root);
    let loaded = cache.load(&store).unwrap();
    assert_eq!(loaded.taken, 1);
    let ignored: Vec<String> = loaded
        .ignored
        .iter()
        .map(|(path, why)| format!("{} {why}", path.file_name().unwrap().display()))
        .collect();
    assert!(
        ignored[0].starts_with("half.json collateral: file cannot be read"),
        "{ignored:?}"
    );
    assert!(ignored[1].starts_with("other.json") && ignored[1].contains("not genuine"));
    assert_eq!(ignored.len(), 2);
    // What is damaged is written anew.
    std::fs::write(cache.path(&p).unwrap(), "{").unwrap();
    cache.write(&p, &text).unwrap();
    assert_eq!(cache.load(&CollateralStore::under(root)).unwrap().taken, 1);
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = |mode: u32| {
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        DiskCache::open(folder.path()).map(|_| ())
    };
    for good in [0o700, 0o755, 0o750] {
        open(good).unwrap();
    }
    for bad in [0o777, 0o770, 0o702] {
        let error = open(bad).unwrap_err().to_string();
        assert!(error.contains("chmod go-w"), "{error}");
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(DiskCache::open(&file), Err(CacheError::Io { .. })));
}
