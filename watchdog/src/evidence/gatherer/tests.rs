#![expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]

use std::fs::File;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::probe::wakeup::{Wakeup, Woken};

const FIRST: Purpose = Purpose::Incident(1);

fn request(purpose: Purpose, process: File) -> Request {
    Request {
        purpose,
        target: TargetIdentity { pid: 1, start_time: 2, incarnation: 3 },
        process: Arc::new(process.into()),
        subject: Subject { at_fault: None, watched: Vec::new(), others: true },
        deadline: now().plus(Duration::from_secs(60)),
        dump: true,
    }
}

#[test]
fn it_wakes_the_loop_when_it_is_done() {
    let (send, received) = channel();
    let mut wakeup = Wakeup::new().unwrap();
    let mut gatherer =
        Gatherer::start(wakeup.waker(), None, move |delivery| send.send(delivery).unwrap()).unwrap();
    assert_eq!(gatherer.ask(request(FIRST, File::open("/proc/self").unwrap())), Ok(()));
    let woken = wakeup.wait(now().plus(Duration::from_secs(60)));
    assert_eq!(woken, [Woken::Called]);
    assert!(gatherer.is_done());
    let Delivery::Gathered(gathered) = received.recv().unwrap() else { panic!("no dump was possible") };
    assert_eq!(gathered.purpose, FIRST);
    assert!(!gathered.evidence.threads.is_empty());
}

#[test]
fn while_it_is_at_work_no_other_process_waits_for_it() {
    let (begun, begins) = channel();
    let (release, released) = channel::<()>();
    let mut wakeup = Wakeup::new().unwrap();
    let mut gatherer = Gatherer::start(wakeup.waker(), None, move |delivery| {
        let Delivery::Gathered(gathered) = delivery else { return };
        begun.send(gathered.purpose).unwrap();
        let _ = released.recv();
    })
    .unwrap();
    assert_eq!(gatherer.ask(request(FIRST, File::open("/proc/self").unwrap())), Ok(()));
    assert_eq!(begins.recv().unwrap(), FIRST);
    let refused = gatherer.ask(request(Purpose::Incident(2), File::open("/proc/self").unwrap()));
    assert_eq!(refused, Err(Busy(FIRST)));
    assert!(!gatherer.is_done());
    release.send(()).unwrap();
    wakeup.wait(now().plus(Duration::from_secs(60)));
    assert!(gatherer.is_done());
    assert_eq!(gatherer.ask(request(Purpose::Rehearsal, File::open("/proc/self").unwrap())), Ok(()));
    assert_eq!(begins.recv().unwrap(), Purpose::Rehearsal);
}

#[test]
fn a_dump_that_is_wanted_and_cannot_be_taken_says_why() {
    let (send, received) = channel();
    let waker = Wakeup::new().unwrap().waker();
    let mut gatherer = Gatherer::start(waker, None, move |delivery| send.send(delivery).unwrap()).unwrap();
    assert_eq!(gatherer.ask(request(FIRST, File::open("/proc/self").unwrap())), Ok(()));
    assert!(matches!(received.recv().unwrap(), Delivery::Gathered(_)));
    let Delivery::Dumped { incident: 1, dump: Err(why), .. } = received.recv().unwrap() else { panic!() };
    assert!(why.contains("when the sidecar starts") && why.contains("exit-code"), "{why}");
}

/// Takes no dump but tells of each request.
struct Says(std::sync::mpsc::Sender<String>);

impl TakesDumps for Says {
    fn prepare(&mut self) {
        self.0.send("prepare".to_owned()).unwrap();
    }

    fn dump(&mut self, target: TargetIdentity, tid: i32, _: Instant) -> Result<Dump, String> {
        self.0.send(format!("dump {} about {tid}", target.pid)).unwrap();
        Err("not today".to_owned())
    }
}

#[test]
fn only_an_incident_has_a_dump_and_a_rehearsal_prepares_it() {
    let (send, received) = channel();
    let (say, said) = channel();
    let mut wakeup = Wakeup::new().unwrap();
    let deliver = move |delivery| send.send(delivery).unwrap();
    let mut gatherer = Gatherer::start(wakeup.waker(), Some(Box::new(Says(say))), deliver).unwrap();
    for purpose in [Purpose::Rehearsal, Purpose::NearMiss(1), FIRST] {
        assert_eq!(gatherer.ask(request(purpose, File::open("/proc/self").unwrap())), Ok(()));
        while !gatherer.is_done() {
            wakeup.wait(now().plus(Duration::from_secs(60)));
        }
    }
    assert_eq!(said.recv().unwrap(), "prepare");
    assert_eq!(said.recv().unwrap(), "dump 1 about 1", "no thread is at fault, so it is about the main one");
    let delivered: Vec<_> = (0..4).map(|_| received.recv().unwrap()).collect();
    assert!(
        matches!(&delivered[3], Delivery::Dumped { incident: 1, dump: Err(why), .. } if why == "not today")
    );
}
