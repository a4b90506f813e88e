//! AMD's service: what a report's chip is asked for, and what becomes of the answers.

use std::time::Duration;

use cocoon_attest::evidence::snp::{Generation, SnpRoots};
use cocoon_attest::evidence::snp_collateral::SnpCollateral;
use cocoon_collateral::DiskCache;
use cocoon_collateral::cache::read_text;
use cocoon_collateral::kds::{Kds, Wanted};
use cocoon_collateral::web::Web;
use cocoon_softtee::{SnpFields, SoftSnp, pem};

use crate::pcs::{DAY, NOW, QUICK, Reply, Server, deadlines};

struct Amd {
    server: Server,
    snp: SoftSnp,
}

impl Amd {
    async fn start() -> Self {
        let amd = Amd {
            server: Server::start().await,
            snp: SoftSnp::new(NOW),
        };
        let [ark, ask, vcek] = amd.snp.chain();
        amd.server.set(&amd.vcek_path(), vec![Reply::of(vcek)]);
        let chain = pem(&[&ask, &ark]);
        amd.server
            .set("/vcek/v1/Genoa/cert_chain", vec![Reply::of(chain)]);
        amd.publish(false, NOW - DAY);
        amd
    }

    fn publish(&self, revoked: bool, issued: u64) {
        let list = self.snp.crl(revoked, issued);
        self.server.set("/vcek/v1/Genoa/crl", vec![Reply::of(list)]);
    }

    fn vcek_path(&self) -> String {
        let chip = "c1".repeat(64);
        format!("/vcek/v1/Genoa/{chip}?blSPL=10&teeSPL=01&snpSPL=23&ucodeSPL=200")
    }

    fn wanted(&self) -> Wanted {
        Wanted::of_report(&self.snp.report(&SnpFields::default()), None).unwrap()
    }

    async fn fetch(&self, wanted: &Wanted) -> Result<SnpCollateral, String> {
        let web = Web::native(deadlines(Duration::from_secs(60)));
        let kds = Kds::at(&self.server.url(), web, false)
            .unwrap()
            .retrying(QUICK);
        let fetched = kds.fetch(wanted, NOW, &self.roots()).await;
        fetched.map_err(|error| error.to_string())
    }

    fn roots(&self) -> SnpRoots {
        SnpRoots::pinned(Generation::Genoa, self.snp.root_sha256())
    }
}

#[tokio::test]
async fn the_key_of_a_chip_is_fetched_with_chain_and_list() {
    let amd = Amd::start().await;
    let fetched = amd.fetch(&amd.wanted()).await.unwrap();
    assert_eq!(fetched.generation, Generation::Genoa);
    assert_eq!((fetched.tcb.snp, fetched.tcb.microcode), (23, 200));
    fetched.verify(NOW, &amd.roots()).unwrap();
    assert!(
        fetched.verify(NOW + 30 * DAY, &amd.roots()).is_err(),
        "the list has ended"
    );
    assert!(fetched.verify(NOW, &SnpRoots::amd()).is_err());

    // Kept by chip and patch level, and read again.
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path()).unwrap();
    let path = cache.write_snp(&fetched).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(
        name,
        format!("snp-genoa-{}-0-10-1-23-200.json", "c1".repeat(64))
    );
    let read = SnpCollateral::from_json(&read_text(&path).unwrap()).unwrap();
    assert_eq!(read, fetched);
    assert_eq!(cache.snp_files().unwrap(), [path]);
    assert!(cache.files().unwrap().is_empty(), "no TDX collateral");
    // An older list replaces nothing.
    amd.publish(false, NOW - 2 * DAY);
    let older = amd.fetch(&amd.wanted()).await.unwrap();
    let error = cache.write_snp(&older).unwrap_err().to_string();
    assert!(error.contains("the revocation list"), "{error}");
}

#[tokio::test]
async fn what_does_not_verify_the_report_is_refused() {
    let other = SoftSnp::new(NOW);
    let [other_ark, other_ask, other_vcek] = other.chain();
    let chain = pem(&[&other_ask, &other_ark]);
    let vcek = Amd::start().await.vcek_path();
    let cases: Vec<(&str, Reply, &str)> = vec![
        (&vcek, Reply::status(404), "does not have it"),
        (&vcek, Reply::of(other_vcek), "is not signed by"),
        (&vcek, Reply::of(vec![0; 9]), "cannot be read"),
        (&vcek, Reply::of(vec![0; 70 << 10]), "more than 65536 bytes"),
        (
            "/vcek/v1/Genoa/cert_chain",
            Reply::of(chain),
            "not the root that is trusted",
        ),
        (
            "/vcek/v1/Genoa/cert_chain",
            Reply::of("none"),
            "is not in it",
        ),
        (
            "/vcek/v1/Genoa/cert_chain",
            Reply::of(vec![0xff]),
            "is not text",
        ),
        (
            "/vcek/v1/Genoa/crl",
            Reply::of(vec![0; 9]),
            "revocation list",
        ),
        (
            "/vcek/v1/Genoa/crl",
            Reply::of(other.crl(false, NOW)),
            "revocation list",
        ),
    ];
    for (path, reply, reason) in cases {
        let amd = Amd::start().await;
        amd.server.set(path, vec![reply]);
        let error = amd.fetch(&amd.wanted()).await.unwrap_err();
        assert!(error.contains(reason), "{path}: {reason}: {error}");
    }
    for (revoked, issued, reason) in [
        (true, NOW - DAY, "revoked"),
        (false, NOW - 31 * DAY, "not of now"),
        (false, NOW + DAY, "not of now"),
    ] {
        let amd = Amd::start().await;
        amd.publish(revoked, issued);
        let error = amd.fetch(&amd.wanted()).await.unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn reports_that_cannot_be_asked_about() {
    let snp = SoftSnp::new(NOW);
    let of = |edit: fn(&mut Vec<u8>), generation| {
        let mut report = snp.report(&SnpFields::default());
        edit(&mut report);
        let wanted = Wanted::of_report(&report, generation);
        wanted.map_err(|error| error.to_string())
    };
    for (edit, reason) in [
        ((|r| r[0x48] = 1 << 2) as fn(&mut Vec<u8>), "VLEK"),
        (|r| r[0x48] = 2, "masks the chip"),
        (|r| r[0x1a0..0x1e0].fill(0), "masks the chip"),
        (|r| r[0] = 2, "name it"),
        (|r| r[0] = 9, "version 9"),
        (|r| r.truncate(9), "has 9"),
    ] {
        let error = of(edit, None).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    // Version 2 does not say what processor it comes from.
    let told = of(|r| r[0] = 2, Some(Generation::Genoa)).unwrap();
    let same = of(|_| (), None).unwrap();
    assert_ne!(told, same, "the bytes differ");
}
