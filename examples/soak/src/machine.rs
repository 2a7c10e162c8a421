//! What a run was made on, for a report that somebody sends: told before the work begins, so that a run that fails
//! tells it too.

use std::collections::BTreeSet;
use std::fmt::{self, Formatter};
use std::process::Command;
use std::{env, fs, thread};

use bytepool::ffi::capi::bytepool_version;

pub(crate) struct Machine;

/// What a command says on one line, where there is such a command.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// The processors' names as Linux tells them; on aarch64 these are numbers of maker and design.
fn processors() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let tells = ["model name", "CPU implementer", "CPU variant", "CPU part", "CPU revision", "uarch", "cpu"];
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let told: BTreeSet<String> = lines
        .filter(|(name, _)| tells.contains(&name.trim()))
        .map(|(name, value)| format!("{} {}", name.trim(), value.trim()))
        .collect();
    (!told.is_empty()).then(|| told.into_iter().collect::<Vec<_>>().join(", "))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let version = bytepool_version();
        let [major, minor, patch] = [version / 1_000_000, version / 1_000 % 1_000, version % 1_000];
        let cores = thread::available_parallelism().map(|cores| cores.to_string()).ok();
        let system = said("uname", &["-srvm"]).unwrap_or_else(|| env::consts::OS.to_owned());
        let rows = [
            ("bytepool", Some(format!("{major}.{minor}.{patch}"))),
            ("target", Some(env!("SOAK_TARGET").to_owned())),
            ("compiler", Some(env!("SOAK_RUSTC").to_owned())),
            ("system", Some(system)),
            ("processors", processors().or_else(|| said("sysctl", &["-n", "machdep.cpu.brand_string"]))),
            ("cores", cores),
            ("page size", said("getconf", &["PAGESIZE"])),
        ];
        for (name, value) in rows {
            writeln!(f, "  {name:<15}{}", value.as_deref().unwrap_or("not told"))?;
        }
        Ok(())
    }
}
