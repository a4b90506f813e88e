//! The guest's side against an imitation of the kernel with its errors, and against recorded trees.

#[path = "support/soft_kernel.rs"]
mod soft_kernel;

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::evidence::event_log::EventLog;
use cocoon_attest::guest::event_log::{DATA, FoundLog, TABLE, lines};
use cocoon_attest::guest::host::{Host, Kind};
use cocoon_attest::guest::registers::Registers;
use cocoon_attest::guest::tsm::TRIES;
use cocoon_attest::guest::{GuestError, Kernel, Provider, Reports, System, gpu};
use cocoon_attest::image::spec_tree::{SpecTree, extend, extend_text, rtmr3};
use cocoon_attest::quote::{self, QuoteBody};
use cocoon_attest::quote_source::TdxGuest;
use cocoon_attest::{QuoteSource, QuoteSourceError, TlsIdentity};
use cocoon_softtee::{Fault, Machine, SnpFields, SoftKernel, SoftSnp, SoftTdx, TdFields};

use soft_kernel::Soft;

const NOW: u64 = 1_790_000_000;
const DATA64: [u8; 64] = [0x5a; 64];
const EIO: i32 = 5;
const EINTR: i32 = 4;
const EBUSY: i32 = 16;
const EFBIG: i32 = 27;
const ETIMEDOUT: i32 = 110;

fn tdx() -> Arc<SoftKernel> {
    let fields = TdFields {
        registers: [1, 2, 3, 4, 5, 6, 7, 8].map(|byte| [byte; 48]),
        ..TdFields::default()
    };
    let platform = Arc::new(SoftTdx::new(NOW));
    Arc::new(SoftKernel::new(Machine::Tdx(platform, fields)))
}

fn kernel(soft: &Arc<SoftKernel>) -> Arc<dyn Kernel> {
    Arc::new(Soft(soft.clone()))
}

fn reports(soft: &Arc<SoftKernel>) -> Reports {
    Reports::new(kernel(soft)).with_pause(Duration::from_millis(1))
}

fn measured(evidence: &[u8]) -> cocoon_attest::measurements::TdxMeasurements {
    match quote::parse(evidence).unwrap().body {
        QuoteBody::Tdx(body) => body.measurements,
        QuoteBody::Sgx(_) => panic!("an enclave's"),
    }
}

#[test]
fn a_quote_carries_what_was_asked_for() {
    let soft = tdx();
    let report = reports(&soft).report(&DATA64, None).unwrap();
    assert_eq!(report.provider, Provider::Tdx);
    let found = measured(&report.evidence);
    assert_eq!(found.report_data, DATA64);
    assert_eq!((found.mr_td, found.rtmr[3]), ([1; 48], [8; 48]));
    assert!(report.auxiliary.is_empty());
    // Each request has an entry of its own, and none stays behind.
    reports(&soft)
        .report(&[1; 64], Some(Provider::Tdx))
        .unwrap();
    let (left, names) = soft.requests();
    assert_eq!((left, names.len()), (0, 2));
    assert_ne!(names[0], names[1]);
    assert!(names.iter().all(|name| name.starts_with("cocoon-")));
}

#[test]
fn an_snp_report_comes_with_its_certificates_and_level() {
    let table = vec![9; 3_000];
    let machine = Machine::Snp(
        Arc::new(SoftSnp::new(NOW)),
        SnpFields::default(),
        table.clone(),
    );
    let soft = Arc::new(SoftKernel::new(machine));
    let report = reports(&soft).at_level(2).report(&DATA64, None).unwrap();
    assert_eq!(report.provider, Provider::Snp);
    assert_eq!(report.auxiliary, table);
    let parsed = cocoon_attest::evidence::snp_report::SnpReport::parse(&report.evidence).unwrap();
    assert_eq!((parsed.report_data.0, parsed.vmpl), (DATA64, 2));
    let error = reports(&soft)
        .report(&DATA64, Some(Provider::Tdx))
        .unwrap_err();
    assert!(
        matches!(&error, GuestError::OtherProvider { wanted: "tdx_guest", found } if found == "sev_guest"),
        "{error}"
    );
    assert_eq!(soft.requests().0, 0);
}

#[test]
fn a_busy_machine_is_asked_again_and_not_for_ever() {
    let soft = tdx();
    let interrupted = [
        Fault::Errno(EBUSY),
        Fault::Errno(EINTR),
        Fault::Errno(EBUSY),
    ];
    soft.fail(interrupted);
    let report = reports(&soft).report(&DATA64, None).unwrap();
    assert_eq!(measured(&report.evidence).report_data, DATA64);
    assert_eq!(soft.asked(), 4);
    for number in [EBUSY, EINTR] {
        let soft = tdx();
        soft.fail([Fault::Errno(number); TRIES + 5]);
        let error = reports(&soft).report(&DATA64, None).unwrap_err();
        assert!(
            matches!(&error, GuestError::Busy { tries: TRIES, source } if source.raw_os_error() == Some(number)),
            "{error}"
        );
        assert_eq!(soft.asked(), TRIES);
        assert_eq!(
            soft.requests().0,
            0,
            "the entry goes away after an error too"
        );
    }
}

/// The answer to somebody else's question is never taken for ours.
#[test]
fn another_writer_is_noticed_by_the_generation() {
    for fault in [Fault::OtherWriter, Fault::LateWriter] {
        let soft = tdx();
        soft.fail([fault, fault]);
        let report = reports(&soft).report(&DATA64, None).unwrap();
        assert_eq!(measured(&report.evidence).report_data, DATA64);
        assert_eq!(soft.asked(), if fault == Fault::LateWriter { 3 } else { 1 });
        let soft = tdx();
        soft.fail([fault; TRIES]);
        let error = reports(&soft).report(&DATA64, None).unwrap_err();
        assert!(
            matches!(error, GuestError::Conflict { tries: TRIES, .. }),
            "{error}"
        );
    }
}

#[test]
fn failures_are_told_apart_and_say_what_to_do() {
    let refused = |fault: Fault| {
        let soft = tdx();
        soft.fail([fault]);
        let error = reports(&soft).report(&DATA64, None).unwrap_err();
        assert_eq!(soft.requests().0, 0);
        error
    };
    let ignored = refused(Fault::Refused);
    assert!(matches!(ignored, GuestError::Ignored { .. }), "{ignored}");
    let wrong = refused(Fault::WrongData);
    assert!(matches!(wrong, GuestError::WrongAnswer), "{wrong}");
    for number in [EIO, ETIMEDOUT] {
        let error = refused(Fault::Errno(number)).to_string();
        assert!(error.contains("qgsd"), "{error}");
    }
    let large = refused(Fault::Errno(EFBIG));
    assert!(matches!(large, GuestError::TooLarge), "{large}");
    let nobody = Arc::new(SoftKernel::new(Machine::None));
    let error = reports(&nobody).report(&DATA64, None).unwrap_err();
    assert!(error.to_string().contains("modprobe"), "{error}");
    let error = TdxGuest::on(kernel(&nobody)).quote(&DATA64).unwrap_err();
    assert!(
        matches!(error, QuoteSourceError::Guest(GuestError::NotAGuest { .. })),
        "{error}"
    );
}

/// A certificate with a real quote, made the whole way from a key in memory.
#[test]
fn a_certificate_carries_a_quote_for_its_key() {
    let soft = tdx();
    let identity = TlsIdentity::attested(&TdxGuest::on(kernel(&soft)), NOW).unwrap();
    let presenter = cocoon_attest::certificate::Presenter::Server;
    let found =
        cocoon_attest::certificate::verify(identity.certificate_der(), presenter, NOW).unwrap();
    let quoted = measured(&found.quote.unwrap());
    let expected = cocoon_attest::profile::report_data(&identity.public_key());
    assert_eq!(quoted.report_data, expected);
}

#[test]
fn registers_are_read_and_extended() {
    let soft = tdx();
    let registers = Registers::open(kernel(&soft)).unwrap();
    let before = registers.measurements().unwrap();
    assert_eq!(before.rtmr, [[5; 48], [6; 48], [7; 48], [8; 48]]);
    assert_eq!((before.mr_td, before.mr_config_id), ([1; 48], [2; 48]));
    // What the kernel shows gives the image hash that a quote gives.
    let quoted = reports(&soft).report(&DATA64, None).unwrap().evidence;
    assert_eq!(measured(&quoted).image_hash(), before.image_hash());
    let after = registers.extend(3, &[0x20; 48]).unwrap();
    assert_eq!(after, extend(&[8; 48], &[0x20; 48]));
    assert_eq!(registers.rtmr(3).unwrap(), after);
    let quoted = reports(&soft).report(&DATA64, None).unwrap().evidence;
    assert_eq!(measured(&quoted).rtmr[3], after);
    for register in [0, 1, 4] {
        let error = registers.extend(register, &[0; 48]).unwrap_err();
        assert!(matches!(error, GuestError::Message(_)), "{error}");
    }
    assert_eq!(
        registers.measurements().unwrap().rtmr[..3],
        before.rtmr[..3]
    );
}

#[test]
fn an_extension_that_did_not_happen_is_an_end() {
    let soft = tdx();
    let registers = Registers::open(kernel(&soft)).unwrap();
    soft.fail([Fault::LostExtension]);
    let error = registers.extend(3, &[1; 48]).unwrap_err();
    let GuestError::Readback {
        register,
        expected,
        found,
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(*register, 3);
    assert_eq!(*expected, hex::encode(extend(&[8; 48], &[1; 48])));
    assert_eq!(*found, hex::encode([8; 48]));
}

/// The events of a guest's start (spec 6.4) lead to the register that `measure config` foretells.
#[test]
fn text_events_are_measured_and_logged() {
    let machine = Machine::Tdx(Arc::new(SoftTdx::new(NOW)), TdFields::default());
    let soft = Arc::new(SoftKernel::new(machine));
    let registers = Registers::open(kernel(&soft)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("run/events");
    let tree = SpecTree([0xab; 32]);
    let events = [
        format!("cocoon:spec.tree={tree}"),
        "cocoon:tdx_inited".to_owned(),
    ];
    for event in &events {
        registers.extend_text(3, event, Some(&log)).unwrap();
    }
    assert_eq!(registers.rtmr(3).unwrap(), rtmr3(&tree, false));
    let text = fs::read_to_string(&log).unwrap();
    let read = lines(&text).unwrap();
    assert_eq!(read, events);
    let replayed = read.iter().fold([0; 48], |r, line| extend_text(&r, line));
    assert_eq!(registers.rtmr(3).unwrap(), replayed);
    let long = "x".repeat(1_025);
    for message in ["", "two\nlines", "bell\u{7}", &long] {
        let error = registers.extend_text(3, message, Some(&log)).unwrap_err();
        assert!(matches!(error, GuestError::Message(_)), "{error}");
    }
    assert_eq!(fs::read_to_string(&log).unwrap(), text);
    assert_eq!(registers.rtmr(3).unwrap(), replayed);
    lines("a\tb").unwrap_err();
}

/// Digests end in any byte; the reference takes line ends and spaces away from them.
#[test]
fn registers_of_a_recorded_tree_are_read_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("sys/class/misc/tdx_guest/measurements");
    let error = Registers::open(Arc::new(System::at(dir.path())))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("CONFIG_TSM_MEASUREMENTS"),
        "{error}"
    );
    fs::create_dir_all(&at).unwrap();
    let mut digest = [7; 48];
    digest[46..].copy_from_slice(b" \n");
    fs::write(at.join("rtmr3:sha384"), digest).unwrap();
    fs::write(at.join("rtmr2:sha384"), [7; 47]).unwrap();
    let registers = Registers::open(Arc::new(System::at(dir.path()))).unwrap();
    assert_eq!(registers.rtmr(3).unwrap(), digest);
    let error = registers.rtmr(2).unwrap_err().to_string();
    assert!(error.contains("47 bytes instead of 48"), "{error}");
    let error = registers.rtmr(1).unwrap_err();
    assert!(matches!(error, GuestError::Io { .. }), "{error}");
    // A plain file keeps what was written, which is no extension.
    let error = registers.extend(3, &[1; 48]).unwrap_err();
    assert!(matches!(error, GuestError::Readback { .. }), "{error}");
}

/// The specification's log as a machine shows it.
fn log_of_the_specification() -> (Vec<u8>, Vec<u8>) {
    let all: serde_json::Value =
        serde_json::from_str(include_str!("vectors/image_identity.json")).unwrap();
    let data = hex::decode(all["ccel_event_log"]["log_hex"].as_str().unwrap()).unwrap();
    let mut table = vec![0; 56];
    table[..4].copy_from_slice(b"CCEL");
    table[4] = 56;
    table[36] = 2;
    table[40..48].copy_from_slice(&(data.len() as u64).to_le_bytes());
    (table, data)
}

#[test]
fn the_event_log_explains_the_registers() {
    let (table, data) = log_of_the_specification();
    let replayed = EventLog::parse(&data).unwrap().replay();
    let mut fields = TdFields::default();
    fields.registers[4..].copy_from_slice(&replayed);
    let machine = Machine::Tdx(Arc::new(SoftTdx::new(NOW)), fields);
    let soft = Arc::new(SoftKernel::new(machine));
    let error = FoundLog::read(&*kernel(&soft)).unwrap_err();
    assert!(matches!(error, GuestError::NoEventLog { .. }), "{error}");
    soft.put(TABLE, table.clone());
    soft.put(DATA, data.clone());
    let log = FoundLog::read(&*kernel(&soft)).unwrap();
    assert!(log.compare(kernel(&soft), &[]).unwrap().accepted());
    let registers = Registers::open(kernel(&soft)).unwrap();
    registers.extend_text(3, "cocoon:tdx_inited", None).unwrap();
    let verdict = log.compare(kernel(&soft), &[]).unwrap();
    let failed: Vec<&str> = verdict.failures().map(|check| check.field).collect();
    assert_eq!(failed, ["RTMR3"]);
    let explained = log.compare(kernel(&soft), &["cocoon:tdx_inited"]).unwrap();
    assert!(explained.accepted(), "{explained}");
    // A table of another kind, another length, another machine.
    let damaged = |at: usize, value: u8| {
        let mut table = table.clone();
        table[at] = value;
        soft.put(TABLE, table);
        FoundLog::read(&*kernel(&soft)).unwrap_err().to_string()
    };
    assert!(damaged(0, b'X').contains("is none"));
    assert!(damaged(4, 57).contains("is none"));
    assert!(damaged(36, 1).contains("kind 1"));
    assert!(damaged(40, table[40] ^ 1).contains("announces"));
    soft.put(TABLE, [&table[..], b"x"].concat());
    let error = FoundLog::read(&*kernel(&soft)).unwrap_err().to_string();
    assert!(error.contains("57 bytes instead of 56"), "{error}");
    soft.put(TABLE, table);
    soft.put(DATA, data[..data.len() - 1].to_vec());
    FoundLog::read(&*kernel(&soft)).unwrap_err();
}

#[test]
fn what_a_machine_offers_is_seen() {
    let soft = tdx();
    let host = Host::look(&*kernel(&soft));
    assert_eq!(host.kind, Kind::TdxGuest);
    assert!(host.device && host.quotes && host.configfs && host.registers && host.virtual_machine);
    assert_eq!(host.kernel, "6.16.3-soft");
    assert_eq!(host.missing.len(), 1, "{:?}", host.missing);
    assert!(host.missing[0].contains("event log"));
    let snp = Machine::Snp(
        Arc::new(SoftSnp::new(NOW)),
        SnpFields::default(),
        Vec::new(),
    );
    let host = Host::look(&*kernel(&Arc::new(SoftKernel::new(snp))));
    assert_eq!(host.kind, Kind::SnpGuest);
    assert!(host.missing[0].contains("sev-guest"), "{:?}", host.missing);
    let plain = Host::look(&*kernel(&Arc::new(SoftKernel::new(Machine::None))));
    assert_eq!((plain.kind, plain.missing.len()), (Kind::None, 1));
}

/// A recorded tree of an older guest: every missing part is named with the way to it.
#[test]
fn what_is_missing_in_a_recorded_tree_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let look = || Host::look(&System::at(dir.path()));
    assert_eq!(
        (look().kind, look().kernel),
        (Kind::None, "unknown".to_owned())
    );
    put(
        "proc/cpuinfo",
        "processor\t: 0\nflags\t\t: fpu hypervisor tdx_guest\n",
    );
    put("proc/sys/kernel/osrelease", "6.5.0-41-generic\n");
    let host = look();
    assert_eq!(host.kind, Kind::TdxGuest);
    let all = host.missing.join("\n");
    assert!(
        all.contains("Linux 6.7") && all.contains("Linux 6.16"),
        "{all}"
    );
    put("proc/sys/kernel/osrelease", "6.12.43\n");
    let all = look().missing.join("\n");
    assert!(
        all.contains("modprobe tdx_guest")
            && all.contains("mount -t configfs")
            && all.contains("Linux 6.16"),
        "{all}"
    );
    put("proc/mounts", "none /sys/kernel/config configfs rw 0 0\n");
    put("sys/devices/virtual/misc/tdx_guest/dev", "10:1\n");
    put(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n",
    );
    fs::create_dir_all(dir.path().join("proc/driver/nvidia/gpus/0000:01:00.0")).unwrap();
    let host = look();
    let all = host.missing.join("\n");
    assert!(
        all.contains("CONFIG_TSM_REPORTS") && !all.contains("modprobe"),
        "{all}"
    );
    assert_eq!(host.gpu.driver.as_deref(), Some("580.95.05"));
    assert_eq!(host.gpu.count, 1);
    let reason = host.gpu.unknown.unwrap_or_default();
    assert!(host.gpu.confidential.is_some() || !reason.is_empty());
}

#[test]
fn files_are_read_whole_and_written_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::at(dir.path());
    system.make_directory("sys").unwrap();
    // Nothing is created by a write: a kernel's files are there or not.
    let error = system.write("sys/a", b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    fs::write(dir.path().join("sys/a"), vec![7; 40_000]).unwrap();
    assert_eq!(system.read("sys/a", 40_000).unwrap(), vec![7; 40_000]);
    let error = system.read("sys/a", 39_999).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    system.write("sys/a", b"xyz").unwrap();
    assert_eq!(system.read("sys/a", 40_000).unwrap()[..4], *b"xyz\x07");
    fs::write(dir.path().join("sys/B"), b"").unwrap();
    assert_eq!(system.list("sys").unwrap(), ["B", "a"]);
    assert!(system.exists("sys/B") && !system.exists("sys/b"));
    assert_eq!(system.place("sys/B"), dir.path().join("sys/B"));
}

#[test]
fn a_source_names_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let guest = TdxGuest::at(dir.path());
    let refused = || match guest.quote(&[0; 64]).unwrap_err() {
        QuoteSourceError::Guest(error) => error,
        other => panic!("{other}"),
    };
    assert!(matches!(refused(), GuestError::NotAGuest { .. }));
    fs::create_dir_all(dir.path().join("proc")).unwrap();
    let cpuinfo = dir.path().join("proc/cpuinfo");
    fs::write(&cpuinfo, "model name: tdx_guest\nflags\t\t: fpu vme\n").unwrap();
    assert!(matches!(refused(), GuestError::NotAGuest { .. }));
    fs::write(&cpuinfo, "flags\t\t: fpu tdx_guest vme\n").unwrap();
    let error = refused();
    assert!(matches!(error, GuestError::NoReports { .. }), "{error}");
    assert!(error.to_string().contains("CONFIG_TSM_REPORTS"), "{error}");
    fs::create_dir_all(dir.path().join("sys/kernel/config/tsm/report")).unwrap();
    // A directory that is no configfs has no attributes in its entries; the entry is taken away again.
    let error = refused();
    assert!(
        matches!(&error, GuestError::Io { path, .. } if path.ends_with("provider")),
        "{error}"
    );
    let left = fs::read_dir(dir.path().join("sys/kernel/config/tsm/report")).unwrap();
    assert_eq!(left.count(), 0);
}

/// The machines that run these tests have no confidential GPU, so both builds have to say what is missing.
#[test]
fn a_missing_gpu_is_named() {
    let Err(error) = gpu::evidence(&[7; 32]) else {
        // A machine with one: the reports carry the nonce, which `gpu::evidence` has compared.
        return;
    };
    let text = error.to_string();
    if cfg!(feature = "nvml") {
        assert!(
            !matches!(error, gpu::GpuSourceError::NotInThisBuild) && !text.is_empty(),
            "{text}"
        );
    } else {
        assert!(text.contains("--features nvml"), "{text}");
    }
}
