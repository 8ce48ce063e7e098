//! Finds the target, checks that it is the intended one, and hands it to the watch loop.
//!
//! This is a thread of its own, because the check reads `/proc/PID/maps`, which takes the target's
//! memory lock and can hang. Meanwhile the loop continues with the target that it has; if it has
//! none, status reports that nothing is guarded.

pub mod check;
mod clocks;
pub mod custody;
pub mod hidden;
mod inquiry;
mod kept;
mod kept_maps;
mod mapping;
pub mod misfit;
mod restored;
mod unit;
mod wanted;
mod way;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use shard_heartbeat::{ClaimError, FileId, Quarantine, ReadError, Reader, Sight, WatchdogBeat};

use crate::own_folder::target_user::{self, TargetUser};
use crate::probe::Adopted;
use crate::probe::cgroup::{self, Place};
use crate::probe::wakeup::Waker;
use crate::snapshot::TargetIdentity;

use inquiry::{Inquiry, Questions};
use kept::Kept;

pub use wanted::Wanted;

/// How often the path is checked while there is no target: a restart is noticed within this time.
const HUNT_EVERY: Duration = Duration::from_millis(2);
/// How often it is checked while there is one: a segment is rarely replaced while its process
/// lives. The sidecar also beats back this often: after two seconds (eight intervals) without a
/// beat, an executor may report that nobody watches. Waking for this is most of what this thread
/// costs.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// How often the segment is reopened and reread while there is a target; in between, only its path
/// is checked.
const OPEN_EVERY: Duration = Duration::from_secs(1);
/// How often the cgroups are checked: a process is rarely moved, and the check reads two files.
const CGROUPS_EVERY: Duration = Duration::from_secs(2);
/// A process that shows its `/proc` does so from a thread with no other task. If it takes longer
/// than this, it is stopped or starved, and is asked again.
const SIGHT_WITHIN: Duration = Duration::from_millis(100);
/// When a refused segment is retried: its process may still be about to map it.
const RETRY_REFUSED: Duration = Duration::from_millis(20);
/// How often, while there is no target, it checks whether the last one was restored from a
/// checkpoint, with the same segment. This is rare, and the check inspects every process.
const RESTORED_EVERY: Duration = Duration::from_millis(250);

/// What the adopter found.
#[derive(Debug)]
pub enum Found {
    /// A target to watch from now on.
    Target(Box<Adopted>),
    /// Nothing may be watched, and why.
    Refused(String),
    /// The target's present cgroups.
    Cgroups(cgroup::Cgroups),
}

/// The loop's end of the adopter.
#[derive(Debug)]
pub struct Adopter {
    found: Receiver<Found>,
    hunting: Arc<AtomicBool>,
    again: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Thread,
    wanted: Arc<Mutex<Wanted>>,
    kept: Arc<Kept>,
    inquiry: Inquiry,
    handle: Option<JoinHandle<()>>,
}

impl Adopter {
    /// Starts the thread. `waker` wakes the loop when something was found. The sidecar beats back
    /// to the target only while `alive`, the loop's count of its observations, increases. `user`
    /// receives the target's user before the target is handed over.
    pub fn start(
        wanted: Wanted,
        waker: Arc<Waker>,
        alive: Arc<AtomicU64>,
        user: Arc<TargetUser>,
    ) -> std::io::Result<Self> {
        // Room for one: a result that does not fit is not queued but tried again later.
        let (sender, found) = sync_channel(1);
        let hunting = Arc::new(AtomicBool::new(true));
        let again = Arc::new(AtomicBool::new(false));
        let stop = Arc::new(AtomicBool::new(false));
        let wanted = Arc::new(Mutex::new(wanted));
        let kept = Arc::new(Kept::default());
        let inquiry = Inquiry::start(Arc::clone(&waker), CHECK_EVERY)?;
        let search = Search {
            wanted: Arc::clone(&wanted),
            user,
            kept: Arc::clone(&kept),
            kept_told: None,
            sender,
            waker,
            hunting: Arc::clone(&hunting),
            again: Arc::clone(&again),
            stop: Arc::clone(&stop),
            adopted: None,
            questions: inquiry.questions(),
            asked_restored: Instant::now(),
            opened: Instant::now(),
            refused: None,
            place: None,
            placeless: None,
            place_at: None,
            cgroups: Cgroups::default(),
            alive,
            beaten: (0, Instant::now()),
        };
        let handle = std::thread::Builder::new().name("adopt".to_owned()).spawn(move || search.run())?;
        Ok(Self {
            found,
            hunting,
            again,
            stop,
            thread: handle.thread().clone(),
            wanted,
            kept,
            inquiry,
            handle: Some(handle),
        })
    }

    /// What was found since the last call. Never blocks.
    pub fn take(&self) -> Option<Found> {
        self.found.try_recv().ok()
    }

    /// Sets whether there is no target, in which case the search is quick.
    pub fn hunt(&self, hunting: bool) {
        if self.hunting.swap(hunting, Ordering::Relaxed) != hunting {
            self.thread.unpark();
        }
    }

    /// The target handed over last could not be watched: offer it again.
    pub fn try_again(&self) {
        self.again.store(true, Ordering::Relaxed);
    }

    /// Checks now whether the target maps its segment, instead of when this is next due.
    pub fn ask_again(&self) {
        self.inquiry.ask_again();
    }

    /// Names work that the process should not take, in this incarnation and later ones.
    pub fn keep_from(&self, keys: &[u64]) {
        self.kept.set(keys);
        self.thread.unpark();
    }

    /// The handle by which a reload changes what is looked for.
    pub fn redirect(&self) -> Redirect {
        Redirect { wanted: Arc::clone(&self.wanted), thread: self.thread.clone() }
    }
}

/// Changes what the adopter looks for. Not for the watch loop: it takes a lock.
#[derive(Clone, Debug)]
pub struct Redirect {
    wanted: Arc<Mutex<Wanted>>,
    thread: Thread,
}

impl Redirect {
    /// Looks for `wanted` from now on. A target already being watched stays until it ends.
    pub fn want(&self, wanted: Wanted) {
        if let Ok(mut place) = self.wanted.lock() {
            *place = wanted;
        }
        self.thread.unpark();
    }
}

impl Drop for Adopter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.unpark();
        // Not joined: it may hang in `/proc`, and the process is about to end.
        drop(self.handle.take());
    }
}

struct Search {
    wanted: Arc<Mutex<Wanted>>,
    user: Arc<TargetUser>,
    kept: Arc<Kept>,
    /// The quarantine last written to the segment through `place`.
    kept_told: Option<Quarantine>,
    sender: SyncSender<Found>,
    waker: Arc<Waker>,
    hunting: Arc<AtomicBool>,
    again: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    adopted: Option<Handed>,
    /// Receives what is needed to check whether a target still maps its segment.
    questions: Questions,
    /// When it was last checked whether the last target was restored.
    asked_restored: Instant,
    /// When the segment was last opened.
    opened: Instant,
    refused: Option<(String, Instant)>,
    /// The sidecar's place at the segment, held across all incarnations so that a second sidecar
    /// cannot have it.
    place: Option<WatchdogBeat>,
    /// Why the sidecar watches without a place, as last logged.
    placeless: Option<String>,
    place_at: Option<PathBuf>,
    cgroups: Cgroups,
    alive: Arc<AtomicU64>,
    beaten: (u64, Instant),
}

/// The target handed over last.
#[derive(Clone, Copy, Debug)]
struct Handed {
    /// Its segment, and the incarnation that the segment named.
    file: (FileId, u64),
    identity: TargetIdentity,
}

/// Where to find the target's cgroups.
#[derive(Debug, Default)]
struct Cgroups {
    proc_dir: Option<PathBuf>,
    /// What `proc_dir` lies below, if the target shows its `/proc`: it must stay open.
    #[expect(dead_code, reason = "it is kept open")]
    sight: Option<Arc<Sight>>,
    own: PathBuf,
    looked: Option<Instant>,
    told: Option<Place>,
}

impl Search {
    fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.keep();
            self.look();
            self.beat();
            self.look_at_cgroups();
            let pause = if self.hunting.load(Ordering::Relaxed) { HUNT_EVERY } else { CHECK_EVERY };
            std::thread::park_timeout(pause);
        }
    }

    fn look(&mut self) {
        if self.again.swap(false, Ordering::Relaxed) {
            self.adopted = None;
        }
        if self.unchanged() {
            return;
        }
        let Ok(wanted) = self.wanted.lock().map(|w| w.clone()) else { return };
        if self.refused.as_ref().is_some_and(|(_, at)| at.elapsed() < RETRY_REFUSED) {
            return;
        }
        let reader = match Reader::open(&wanted.heartbeat) {
            Ok(reader) => reader,
            Err(error) => return self.refuse(unreadable(&wanted.heartbeat, &error)),
        };
        let file = (reader.file_id(), reader.header().incarnation);
        let before = self.adopted.filter(|handed| handed.file == file).map(|handed| handed.identity);
        if before.is_some() && !self.asks_for_restored() {
            return;
        }
        // Before taking the only place at the segment, which belongs to that shard's own sidecar.
        let believed = check::is_of_shard(&reader, &wanted)
            .and_then(|()| custody::check(&reader, &wanted).map_err(Into::into));
        if let Err(refusal) = believed {
            return self.refuse(refusal.to_string());
        }
        match self.take_place(&wanted.heartbeat) {
            Ok(()) => {}
            // Otherwise, whoever made that file could leave the shard unguarded. The target is then
            // not told that it is watched.
            Err(error @ ClaimError::Foreign { .. }) => self.without_place(&error),
            Err(error) => return self.refuse(error.to_string()),
        }
        let (wanted, sight) = match sight(wanted, &reader) {
            Ok(seen) => seen,
            // It is already known that the process is gone.
            Err(_) if before.is_some() => return,
            Err(refusal) => return self.refuse(refusal.to_string()),
        };
        match check::adopt_and_keep(reader, &wanted, sight.clone()) {
            // The old target has not been released yet.
            Ok((adopted, _)) if Some(adopted.handle.identity()) == before => {}
            Ok((adopted, kept)) => {
                let proc_dir = adopted.proc_dir.clone();
                // The sidecar itself is not in a `/proc` that the target shows.
                let own = if sight.is_some() { Path::new("/proc") } else { &wanted.proc_root };
                self.cgroups =
                    Cgroups { proc_dir: Some(proc_dir), own: own.join("self"), sight, ..Cgroups::default() };
                // If it ended meanwhile, this reads nothing, and what was known of its user stays.
                if let Ok(Some(status)) = adopted.leader.try_status() {
                    self.user.set(target_user::User::of_process(&status));
                }
                let identity = adopted.handle.identity();
                self.questions.add(kept);
                if self.send(Found::Target(Box::new(adopted))) {
                    self.adopted = Some(Handed { file, identity });
                    self.refused = None;
                }
            }
            // It is already known that the process is gone.
            Err(refusal) if before.is_some() && !refusal.is_of_restored() => {}
            Err(refusal) => self.refuse(refusal.to_string()),
        }
    }

    /// Whether a check for a restored target is due.
    fn asks_for_restored(&mut self) -> bool {
        let due = self.hunting.load(Ordering::Relaxed) && self.asked_restored.elapsed() >= RESTORED_EVERY;
        if due {
            self.asked_restored = Instant::now();
        }
        due
    }

    /// Whether the path still leads to the adopted file. A file that gets a new incarnation without
    /// being replaced is noticed when it is next opened: no writer does that, and the loop reads
    /// the incarnation at each observation anyway.
    fn unchanged(&mut self) -> bool {
        let Some(Handed { file: (file, _), .. }) = &self.adopted else { return false };
        if self.opened.elapsed() < OPEN_EVERY
            && !self.hunting.load(Ordering::Relaxed)
            && let Ok(wanted) = self.wanted.lock()
            && let Ok(there) = rustix::fs::stat(&wanted.heartbeat)
        {
            let (major, minor) = (rustix::fs::major(there.st_dev), rustix::fs::minor(there.st_dev));
            return *file == FileId { dev_major: major, dev_minor: minor, inode: there.st_ino };
        }
        self.opened = Instant::now();
        false
    }

    fn without_place(&mut self, error: &ClaimError) {
        let why = error.to_string();
        if self.placeless.as_ref() != Some(&why) {
            tracing::error!(
                event = "no_place",
                why,
                "watching without a place at the segment, so the target is not told that it is watched: {why}"
            );
            self.placeless = Some(why);
        }
    }

    fn take_place(&mut self, path: &Path) -> Result<(), ClaimError> {
        if self.place_at.as_deref() != Some(path) {
            // A reload changed the path.
            self.place = None;
            self.place_at = Some(path.to_path_buf());
        }
        match &mut self.place {
            Some(place) => place.follow().map(|_| ()),
            None => {
                self.place = Some(WatchdogBeat::claim(path)?);
                self.kept_told = None;
                self.keep();
                Ok(())
            }
        }
    }

    /// Writes to the segment what work the process should not take, if that has changed.
    fn keep(&mut self) {
        let (Some(place), Some(kept)) = (&mut self.place, self.kept.get()) else { return };
        // If the segment cannot be written, nothing else can be written to it either.
        if self.kept_told != Some(kept) && place.keep_from(kept).is_ok() {
            self.kept_told = Some(kept);
        }
    }

    /// Tells the loop where the target's cgroups are, at first and after each change.
    fn look_at_cgroups(&mut self) {
        let Some(proc_dir) = self.cgroups.proc_dir.clone().filter(|_| !self.hunting.load(Ordering::Relaxed))
        else {
            return;
        };
        if self.cgroups.looked.is_some_and(|at| at.elapsed() < CGROUPS_EVERY) {
            return;
        }
        self.cgroups.looked = Some(Instant::now());
        let place = Place::find(&proc_dir, &self.cgroups.own);
        if self.cgroups.told.as_ref() != Some(&place) && self.send(Found::Cgroups(place.open())) {
            self.cgroups.told = Some(place);
        }
    }

    /// Beats back, so that the executor can tell whether anybody watches: only while the loop runs.
    fn beat(&mut self) {
        let looks = self.alive.load(Ordering::Relaxed);
        let (before, at) = self.beaten;
        if looks == before || at.elapsed() < CHECK_EVERY {
            return;
        }
        if let Some(place) = &mut self.place {
            // If the segment cannot be written, the executor sees no watcher and reports that.
            let _ = place.beat();
        }
        self.beaten = (looks, Instant::now());
    }

    /// Reports why there is no target: once for each reason, and only while there is none.
    fn refuse(&mut self, why: String) {
        if !self.hunting.load(Ordering::Relaxed) {
            return;
        }
        let told = self.refused.as_ref().is_some_and(|(before, _)| *before == why);
        if told || self.send(Found::Refused(why.clone())) {
            self.refused = Some((why, Instant::now()));
        }
    }

    fn send(&self, found: Found) -> bool {
        let sent = match self.sender.try_send(found) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        };
        self.waker.wake();
        sent
    }
}

/// Where to look for the process: in `/proc`, or in the one that the segment's writer shows.
fn sight(wanted: Wanted, reader: &Reader) -> Result<(Wanted, Option<Arc<Sight>>), misfit::Refusal> {
    if !wanted.apart {
        return Ok((wanted, None));
    }
    let sight = Sight::ask(reader.path(), reader.owner_uid(), SIGHT_WITHIN)?;
    let root = sight.root();
    Ok((Wanted { proc_root: root, ..wanted }, Some(Arc::new(sight))))
}

fn unreadable(path: &Path, error: &ReadError) -> String {
    match error {
        ReadError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            format!(
                "no heartbeat segment at {} yet: is the target running, and does it write there?",
                path.display()
            )
        }
        error => format!(
            "{error}; nothing is watched until the target writes a segment of this version there: \
             look at [target] heartbeat, and that executor and sidecar are of one release"
        ),
    }
}
