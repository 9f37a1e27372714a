//! Mounting, and what a test does to the file system behind its users' backs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use nix::mount::{MntFlags, umount2};
use testbed::Bed;

use crate::fault::{Effect, Errors, Logged, Op};
use crate::fuse::Served;
use crate::state::{State, lock};
use crate::store::{Content, Store};

/// How mounts of ours begin in /proc/self/mounts; the process id follows.
const NAME: &str = "pmxcfs-test-";

/// Not yet mounted; see [`Pmxcfs::mount`].
pub struct Pmxcfs;

/// A mounted one; unmounted when it goes away, by a panic too.
pub struct Mounted {
    at: PathBuf,
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
}

/// Whether one can be mounted here: as root, where there is /dev/fuse.
pub fn possible() -> bool {
    let device = fs::File::options().read(true).write(true).open("/dev/fuse");
    nix::unistd::geteuid().is_root() && device.is_ok()
}

impl Pmxcfs {
    /// Mounts an empty one, as node `node` of a cluster, over a directory that
    /// exists. Errors: mount(2)'s.
    pub fn mount(at: &Path, node: &str) -> Result<Mounted> {
        serve(at, Store::new(node))
    }

    /// Mounts one over a bed's /etc/pve, with what was there. The bed must
    /// outlive it. Errors: the bed is no Proxmox VE host; mount(2)'s.
    pub fn over(bed: &Bed) -> Result<Mounted> {
        let dir = bed.at("/etc/pve");
        let local = fs::read_link(dir.join("local")).context("/etc/pve/local")?;
        let node = local.file_name().and_then(|name| name.to_str()).context("/etc/pve/local")?;
        let mut store = Store::new(node);
        load(&mut store, &dir)?;
        serve(&dir, store)
    }
}

fn serve(at: &Path, store: Store) -> Result<Mounted> {
    clear_stale();
    let at = at.canonicalize().with_context(|| at.display().to_string())?;
    let state = Arc::new(Mutex::new(State::new(store)));
    let mut config = Config::default();
    // pmxcfs.c, main()
    config.acl = SessionACL::All;
    config.mount_options = vec![
        MountOption::FSName(format!("{NAME}{}", std::process::id())),
        MountOption::DefaultPermissions,
    ];
    let session = fuser::spawn_mount(Served(state.clone()), &at, &config);
    let session = session.with_context(|| format!("mount on {}", at.display()))?;
    Ok(Mounted { at, state, session: Some(session) })
}

/// Takes over a directory tree. Links that pmxcfs makes itself, and the files
/// that it makes up, are left out; it can hold no others.
fn load(store: &mut Store, dir: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        let entry = entry?;
        let path = entry.path().strip_prefix(dir)?;
        let path = path.to_str().with_context(|| format!("{path:?} is not UTF-8"))?;
        let errno = |errno: i32| io::Error::from_raw_os_error(errno);
        let made_up = store.find(path).ok().and_then(|inode| store.get(inode));
        let made_up = made_up
            .is_some_and(|node| matches!(node.content, Content::Link(_) | Content::Report(_)));
        let kind = entry.file_type();
        let done = match (made_up, kind.is_dir(), kind.is_file()) {
            (true, false, _) => Ok(()),
            (false, true, _) => store.put_dir(path),
            (false, _, true) => store.put(path, &fs::read(entry.path())?),
            _ => bail!("{path}: pmxcfs cannot hold this"),
        };
        done.map_err(errno).with_context(|| path.to_string())?;
    }
    Ok(())
}

impl Mounted {
    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// A path below it.
    pub fn at(&self, path: &str) -> PathBuf {
        self.at.join(path)
    }

    /// What another node of the cluster writes: `nodes/pve2/lxc/901.conf`.
    /// Panics where pmxcfs would not take it.
    pub fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let put = lock(&self.state).store.put(path, bytes.as_ref());
        put.map_err(io::Error::from_raw_os_error).expect(path);
    }

    /// What another node of the cluster removes. Panics where there is none.
    pub fn remove(&self, path: &str) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut state = lock(&self.state);
        let removed = state.store.find(dir).and_then(|dir| state.store.remove(dir, name));
        removed.map_err(io::Error::from_raw_os_error).expect(path);
    }

    /// A file's content, without a request.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        let state = lock(&self.state);
        match &state.store.get(state.store.find(path).ok()?)?.content {
            Content::File(bytes) => Some(bytes.clone()),
            Content::Report(report) => Some(report.text(&state.store, state.quorate).into_bytes()),
            _ => None,
        }
    }

    /// Names in a directory, sorted, without a request.
    pub fn names(&self, path: &str) -> Vec<String> {
        let state = lock(&self.state);
        let children = state.store.find(path).and_then(|dir| state.store.children(dir));
        children.map(|children| children.keys().cloned().collect()).unwrap_or_default()
    }

    /// Adds what is below a directory, such as a recorded machine's /etc/pve.
    /// Errors: something there that pmxcfs cannot hold.
    pub fn load(&self, dir: &Path) -> Result<()> {
        load(&mut lock(&self.state).store, dir)
    }

    /// Gains or loses quorum.
    pub fn quorum(&self, on: bool) {
        lock(&self.state).quorate = on;
    }

    /// Loses quorum, for good, when the `nth` request of its kind from now on
    /// comes in (1 is the next), before it is answered.
    pub fn lose_quorum_at(&self, op: Op, nth: usize) {
        lock(&self.state).faults.add(op, nth, Effect::LoseQuorum);
    }

    /// Makes the `nth` request of its kind from now on (1 is the next) fail;
    /// only that one.
    pub fn fail(&self, op: Op, errno: i32, nth: usize) {
        lock(&self.state).faults.add(op, nth, Effect::Fail(errno));
    }

    /// The same for all that follow too, until [`Mounted::clear_faults`]. A
    /// write(2) of several requests of which a later one fails is a short one:
    /// its caller only meets the error when it goes on.
    pub fn fail_from(&self, op: Op, errno: i32, nth: usize) {
        lock(&self.state).faults.add(op, nth, Effect::FailFrom(errno));
    }

    /// Forgets faults that have not happened, or last. Gives their number.
    pub fn clear_faults(&self) -> usize {
        lock(&self.state).faults.clear()
    }

    /// The state of the database.
    pub fn errors(&self, errors: Errors) {
        lock(&self.state).errors = errors;
    }

    /// How long the kernel may answer lookups and stat(2) from what it was told
    /// before. It is nothing, so that tests see what they set; libfuse 2, and so
    /// pmxcfs, has 1 s: a loss of quorum or another node's change may be that
    /// old before stat(2) tells it.
    pub fn cache(&self, time: Duration) {
        lock(&self.state).cache = time;
    }

    /// All requests since the mount or the last [`Mounted::clear_log`].
    pub fn log(&self) -> Vec<Logged> {
        lock(&self.state).log.clone()
    }

    pub fn clear_log(&self) {
        lock(&self.state).log.clear();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if umount2(&self.at, MntFlags::empty()).is_err() {
            // still in use: by a child of the test that hangs
            let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        }
        drop(self.session.take());
    }
}

/// Unmounts what test processes left that were killed.
fn clear_stale() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(name), Some(path)) = (words.next(), words.next()) else { continue };
        let Some(pid) = name.strip_prefix(NAME) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
    }
}
