//! The kernel lab's scenarios on the model: the same files, in the words of
//! tests/lab/lib-model.sh, their transcripts held against what the real kernel
//! answered.
//!
//! A scenario runs in a mount namespace of its own, in which /tmp is a directory
//! made for it and the model is at /tmp/root.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use testbed::tree::Tree;

use crate::inodes::lock;
use crate::mount::{Mounted, ended};
use crate::{ModelKernel, Snapshot};

/// As the lab's guest allows: what a slow machine needs for the longest.
const LIMIT: Duration = Duration::from_secs(300);

/// Where the control socket is, for the scenario.
const SOCKET: &str = "/tmp/ctl.sock";

/// What the fake process that holds a GPU is called.
const HOLDER: u32 = 4_000_001;

/// How the directories are called that become a scenario's /tmp.
const WORK: &str = "modellab";

/// Held while a program is copied and while one is started: a process that is
/// forked while a copy is open for writing keeps that copy from being run (ETXTBSY).
static PROGRAMS: Mutex<()> = Mutex::new(());

/// A scenario file, and the kernel whose answers it is compared with.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub machine: String,
    contract: Option<PathBuf>,
    /// It leaves the machine as it was.
    restores: bool,
    /// Reads beside a stuck unbind block.
    old_locking: bool,
}

/// How one went.
#[derive(Debug)]
pub struct Report {
    /// Why it failed: an expectation, or the difference of the transcripts.
    pub problem: Option<String>,
    /// Whether its transcript was compared with a real kernel's.
    pub compared: bool,
    pub took: Duration,
}

/// The directory of the kernel lab.
fn lab() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab")
}

fn header(text: &str, key: &str) -> Option<String> {
    let prefix = format!("# {key}:");
    text.lines().find_map(|line| Some(line.strip_prefix(&prefix)?.trim().to_string()))
}

/// All that a model can run. One that kernels answer differently comes twice.
pub fn all() -> Vec<Scenario> {
    let lab = lab();
    let dir = fs::read_dir(lab.join("scenarios")).expect("tests/lab/scenarios");
    let mut names: Vec<String> = dir
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".sh").map(String::from))
        .collect();
    names.sort();
    let mut scenarios = Vec::new();
    for name in names {
        let path = lab.join(format!("scenarios/{name}.sh"));
        let text = fs::read_to_string(&path).expect("a scenario");
        if header(&text, "only").is_some() {
            continue;
        }
        let compared = header(&text, "contract").as_deref() == Some("yes");
        let contract = lab.join(format!("contract/{name}.txt"));
        let one = Scenario {
            machine: header(&text, "machine").expect("a machine"),
            contract: compared.then_some(contract),
            restores: header(&text, "reset").as_deref() == Some("none"),
            old_locking: false,
            name,
        };
        let older = lab.join(format!("contract/{}.6.1.txt", one.name));
        scenarios.push(one.clone());
        if older.exists() {
            scenarios.push(Scenario { contract: Some(older), old_locking: true, ..one });
        }
    }
    scenarios
}

impl Scenario {
    /// Its name, with the kernel where that is not the newest.
    pub fn title(&self) -> String {
        if self.old_locking { format!("{}.6.1", self.name) } else { self.name.clone() }
    }

    /// Runs it. `tools`: where the programs under test are; `helper`: the
    /// program `scenarios`. Errors: what kept it from running.
    pub fn run(&self, tools: &Path, helper: &Path) -> io::Result<Report> {
        let start = Instant::now();
        let text = fs::read_to_string(lab().join(format!("machines/{}.tree", self.machine)))?;
        let tree = Tree::parse(&text).map_err(io::Error::other)?;
        let model = Arc::new(ModelKernel::from_tree(&tree));
        model.old_locking(self.old_locking);
        let before = model.snapshot();
        let mut mounted = Mounted::new(model.clone())?;
        mounted.uninterruptible(true);
        mounted.scratch("/run")?;
        mounted.scratch("/etc")?;
        let work = Work::new(self, tools, helper)?;
        let _control = Control::new(model.clone(), &work.dir)?;
        let mut child = work.start(&self.name, mounted.path())?;
        let ended = wait(&child)?;
        let after = model.snapshot();
        // whoever is left of it, in the background or blocked in the model
        let group = child.id() as i32;
        // SAFETY: kill(2) with integers.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        drop(mounted);
        child.wait()?;

        let said = fs::read_to_string(work.dir.join("said"))?;
        let mut problem = None;
        if !ended {
            problem = Some(format!("{said}did not end within {} s", LIMIT.as_secs()));
        } else if said.lines().last() != Some("ok") {
            problem = Some(said);
        } else if self.restores && after != before {
            problem = Some(changed(before, after));
        } else if let Some(contract) = &self.contract {
            problem = difference(contract, &work.dir.join("transcript"))?;
        }
        let compared = self.contract.is_some();
        Ok(Report { problem, compared, took: start.elapsed() })
    }
}

/// Waits until a process has ended, and leaves it to be waited for: until then
/// its number, and that of its group, is nobody else's. Gives false after LIMIT.
fn wait(child: &Child) -> io::Result<bool> {
    let start = Instant::now();
    let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: all zeros is a siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: waitid(2) writes to `info`, which lives on.
        done(unsafe { libc::waitid(libc::P_PID, child.id(), &mut info, how) })?;
        // SAFETY: waitid(2) sets it, to 0 where nothing has ended.
        if unsafe { info.si_pid() } != 0 {
            return Ok(true);
        }
        if start.elapsed() > LIMIT {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// What of the machine is not as it was.
fn changed(mut before: Snapshot, mut after: Snapshot) -> String {
    let mut text = String::from("the machine is not as it was before");
    for (address, then) in std::mem::take(&mut before.functions) {
        let now = after.functions.remove(&address);
        if now.as_ref() != Some(&then) {
            text.push_str(&format!("\n{address}: {then:?}, now {now:?}"));
        }
    }
    for address in std::mem::take(&mut after.functions).into_keys() {
        text.push_str(&format!("\n{address} was not there"));
    }
    if before != after {
        text.push_str(&format!("\n{before:?}\n{after:?}"));
    }
    text
}

/// What diff(1) says of the real kernel's transcript and the model's.
fn difference(expected: &Path, found: &Path) -> io::Result<Option<String>> {
    let mut diff = Command::new("diff");
    diff.arg("-U1").args([expected, found]).stdout(Stdio::piped());
    let diff = spawn(&mut diff)?.wait_with_output()?;
    if diff.status.success() {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&diff.stdout).into_owned()))
}

/// The directory that becomes a scenario's /tmp.
struct Work {
    dir: PathBuf,
}

impl Work {
    fn new(scenario: &Scenario, tools: &Path, helper: &Path) -> io::Result<Work> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        clear_stale();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{WORK}-{}-{count}", std::process::id());
        let work = Work { dir: std::env::temp_dir().join(name) };
        let dir = &work.dir;
        for name in ["root", "bin", "lab/scenarios"] {
            fs::create_dir_all(dir.join(name))?;
        }
        let alone = lock(&PROGRAMS);
        for name in ["gpu-iommu-groups", "gpu-vfio-bind", "vgpu-profile-set"] {
            place(&tools.join(name), &dir.join("bin").join(name))?;
        }
        for name in ["raw", "ctl"] {
            place(helper, &dir.join("bin").join(name))?;
        }
        drop(alone);
        let script = format!("scenarios/{}.sh", scenario.name);
        for name in ["lib-guest.sh", "lib-model.sh", &script] {
            fs::copy(lab().join(name), dir.join("lab").join(name))?;
        }
        Ok(work)
    }

    fn start(&self, name: &str, root: &Path) -> io::Result<Child> {
        let said = File::create(self.dir.join("said"))?;
        let mut paths = vec![PathBuf::from("/tmp/bin")];
        paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let path = std::env::join_paths(paths).map_err(io::Error::other)?;
        // a POSIX shell that knows LINENO, as Debian's dash does not
        let mut command = Command::new("bash");
        command.args(["--posix", "/tmp/lab/lib-model.sh", name]).env("PATH", path);
        command.stdin(Stdio::null()).stderr(said.try_clone()?).stdout(said);
        let string = |path: &Path| CString::new(path.as_os_str().as_bytes());
        let (root, at, dir) = (string(root)?, string(&self.dir.join("root"))?, string(&self.dir)?);
        // SAFETY: only system calls, with strings made before.
        unsafe {
            command.pre_exec(move || {
                let null = std::ptr::null();
                let bind = libc::MS_BIND | libc::MS_REC;
                let private = libc::MS_PRIVATE | libc::MS_REC;
                done(libc::setsid())?;
                done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
                done(libc::unshare(libc::CLONE_NEWNS))?;
                done(libc::mount(null, c"/".as_ptr(), null, private, null.cast()))?;
                done(libc::mount(root.as_ptr(), at.as_ptr(), null, bind, null.cast()))?;
                done(libc::mount(dir.as_ptr(), c"/tmp".as_ptr(), null, bind, null.cast()))?;
                done(libc::chdir(c"/tmp".as_ptr()))
            });
        }
        spawn(&mut command)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Removes what processes left that were killed.
fn clear_stale() {
    let Ok(dir) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in dir.flatten() {
        let name = entry.file_name();
        let mut words = name.to_str().unwrap_or_default().split('-');
        if words.next() == Some(WORK) && words.next().is_some_and(ended) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A system call's return value as a result.
fn done(ret: i32) -> io::Result<()> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn spawn(command: &mut Command) -> io::Result<Child> {
    let _alone = lock(&PROGRAMS);
    command.spawn()
}

/// A program at another place, without a copy where the file system allows.
fn place(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", from.display()))
        })?;
    }
    Ok(())
}

/// Answers what a scenario asks of the model itself.
struct Control {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Control {
    fn new(model: Arc<ModelKernel>, dir: &Path) -> io::Result<Control> {
        let listener = UnixListener::bind(dir.join("ctl.sock"))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let thread = thread::spawn(move || {
            let mut held = Vec::new();
            while !ended.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => drop(answer(&model, &mut held, stream)),
                    Err(_) => thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Ok(Control { stop, thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(model: &ModelKernel, held: &mut Vec<String>, stream: UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let said = obey(model, held, &line).unwrap_or_else(|error| format!("error: {error}"));
    writeln!(&stream, "{said}")
}

/// `held`: the GPUs that are in use by a word of the scenario.
fn obey(model: &ModelKernel, held: &mut Vec<String>, line: &str) -> Result<String, String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let gpu = |minor: &str| {
        let address = minor.parse().ok().and_then(|minor| model.gpu_of_minor(minor));
        address.ok_or_else(|| format!("no GPU has the minor number {minor}"))
    };
    match words[..] {
        ["hold", minor] => {
            let address = gpu(minor)?;
            let pid = HOLDER + held.len() as u32;
            model.hold(&address, 1);
            model.add_process(pid, "raw", &[&format!("/dev/nvidia{minor}")]);
            held.push(address);
            Ok(pid.to_string())
        }
        [how @ ("hold_hidden" | "hold_late"), minor] => {
            let address = gpu(minor)?;
            if how == "hold_late" {
                model.hold_late(&address)
            } else {
                model.hold(&address, 1)
            }
            held.push(address);
            Ok("ok".to_string())
        }
        ["let_go"] => {
            for (n, address) in held.drain(..).enumerate() {
                model.remove_process(HOLDER + n as u32);
                model.release_holders(&address);
            }
            Ok("ok".to_string())
        }
        ["vgpu_card", address] => {
            model.disguise(address);
            Ok("ok".to_string())
        }
        // how many writes have not come back
        ["blocked"] => Ok(model.snapshot().blocked.to_string()),
        _ => Err(format!("unknown: {line}")),
    }
}

/// `ctl WORDS`, in a scenario. Gives what to print and whether it went well.
pub fn ask(words: &[String]) -> (String, bool) {
    let ask = || {
        let stream = UnixStream::connect(SOCKET)?;
        writeln!(&stream, "{}", words.join(" "))?;
        let mut said = String::new();
        BufReader::new(&stream).read_line(&mut said)?;
        Ok::<String, io::Error>(said)
    };
    let said = ask().unwrap_or_else(|error| format!("error: {error}"));
    let well = !said.starts_with("error");
    (said.trim_end().to_string(), well)
}

/// `raw write PATH VALUE` and `raw read PATH`, as tests/lab/raw.c has them.
pub fn raw(words: &[String]) -> (String, bool) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let answer = match words[..] {
        // one open(2) and one write(2)
        ["write", path, value] => File::options()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write(&unescape(value)))
            .map(|_| "ok".to_string()),
        ["read", path] => fs::read(path).map(|bytes| escape(&bytes)),
        _ => return (format!("raw: unknown: {words:?}"), false),
    };
    match answer {
        Ok(said) => (said, true),
        Err(error) => (errno_name(error.raw_os_error().unwrap_or(0)), false),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let escaped = if byte == b'\\' { bytes.next() } else { None };
        out.push(match escaped {
            Some(b'n') => b'\n',
            Some(b'0') => 0,
            Some(other) => other,
            None => byte,
        });
    }
    out
}

fn escape(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\0', "\\0")
}

fn errno_name(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EINTR => "EINTR",
        libc::EIO => "EIO",
        libc::ENXIO => "ENXIO",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::ENODEV => "ENODEV",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::EINVAL => "EINVAL",
        libc::ENOSPC => "ENOSPC",
        libc::EROFS => "EROFS",
        libc::ERANGE => "ERANGE",
        libc::ENOSYS => "ENOSYS",
        libc::ENOTSUP => "ENOTSUP",
        libc::ETIMEDOUT => "ETIMEDOUT",
        _ => return format!("E{errno}"),
    };
    name.to_string()
}
