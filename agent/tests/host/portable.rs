//! The released binaries (`scripts/build-portable`): they must start on every glibc from 2.17 on, and stay small.
//! Without a built one the tests say so and end; `make test` builds them first.

use std::path::PathBuf;
use std::process::Command;

/// The glibc of Amazon Linux 2's and RHEL 7's time.
const OLDEST_GLIBC: (u32, u32) = (2, 17);
/// Bytes.
const LARGEST: u64 = 2_500_000;

/// What is released.
const PROGRAMS: [&str; 2] = ["eic-agent", "eic-agent-service"];

fn binary(arch: &str, program: &str) -> Option<PathBuf> {
    let own = PathBuf::from(env!("CARGO_BIN_EXE_eic-agent"));
    // …/target/debug/eic-agent
    let path = own
        .parent()?
        .parent()?
        .join("portable")
        .join(arch)
        .join(program);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "skipped: {} was not built (scripts/build-portable)",
        path.display()
    );
    None
}

/// What readelf(1) says; it reads foreign architectures too.
fn readelf(option: &str, path: &PathBuf) -> String {
    let output = Command::new("readelf")
        .args(["--wide", option])
        .arg(path)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The `GLIBC_x.y` that a listing names.
fn glibc_versions(listing: &str) -> Vec<(u32, u32)> {
    let names = listing.split("GLIBC_").skip(1);
    names
        .map(|rest| {
            let number = rest
                .split(|c: char| !c.is_ascii_digit() && c != '.')
                .next()
                .unwrap();
            let mut parts = number.split('.').map(|part| part.parse().unwrap());
            (parts.next().unwrap(), parts.next().unwrap_or(0))
        })
        .collect()
}

fn are_portable(arch: &str, machine: &str) {
    for program in PROGRAMS {
        let Some(path) = binary(arch, program) else {
            return;
        };
        is_portable(&path, arch, machine);
    }
}

fn is_portable(path: &PathBuf, arch: &str, machine: &str) {
    assert!(readelf("--file-header", path).contains(machine));
    let versions = glibc_versions(&readelf("--version-info", path));
    assert!(!versions.is_empty(), "no version was read");
    for version in versions {
        assert!(
            version <= OLDEST_GLIBC,
            "{arch} needs GLIBC_{}.{}",
            version.0,
            version.1
        );
    }
    let needed = readelf("--dynamic", path);
    for line in needed.lines().filter(|line| line.contains("(NEEDED)")) {
        let known = [
            "libc.so",
            "libm.so",
            "libpthread.so",
            "libdl.so",
            "librt.so",
            "ld-linux",
        ];
        assert!(known.iter().any(|name| line.contains(name)), "{line}");
    }
    assert!(
        !readelf("--section-headers", path).contains(".symtab"),
        "not stripped"
    );
    println!("{}: {} bytes", path.display(), size(path));
}

fn size(path: &PathBuf) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

/// It is on the login path of every host: what the kernel maps twice per login.
#[test]
fn the_released_program_of_the_login_path_stays_small() {
    let Some(path) = binary(std::env::consts::ARCH, "eic-agent") else {
        return;
    };
    assert!(size(&path) <= LARGEST, "{} bytes", size(&path));
}

#[test]
fn newer_symbols_would_be_noticed() {
    assert_eq!(
        glibc_versions("0x0020: Name: GLIBC_2.34 Flags: none\n  Name: GLIBC_2.2.5  Flags"),
        [(2, 34), (2, 2)]
    );
    // The build machine's own: newer than what may be released, or the test above proves nothing here.
    let own = PathBuf::from(env!("CARGO_BIN_EXE_eic-agent"));
    assert!(!glibc_versions(&readelf("--version-info", &own)).is_empty());
}

#[test]
fn the_released_x86_64_binary_needs_no_newer_glibc_than_2_17() {
    are_portable("x86_64", "X86-64");
}

#[test]
fn the_released_aarch64_binary_needs_no_newer_glibc_than_2_17() {
    are_portable("aarch64", "AArch64");
}

#[test]
fn the_released_binary_runs_here() {
    let Some(path) = binary(std::env::consts::ARCH, "eic-agent") else {
        return;
    };
    let output = Command::new(path).arg("--version").output().unwrap();
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .starts_with("eic-agent ")
    );
}
