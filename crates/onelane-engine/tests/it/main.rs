//! Given this memory, when that happens, then these actions and nothing else.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod simulation;

use std::path::Path;
use std::sync::Arc;

use onelane_core::{
    Capacity, Job, JobEvent, JobId, JobState, OrderKey, Priority, StateWord, StopReason, Timestamp,
};
use onelane_engine::{Action, Event, State, step};
use onelane_exec::{
    AttemptId, ExitRecord, Found, LogCounts, Outcome, ProcessRecord, Running, ToolUsage, Verdict,
};
use onelane_store::{QueueEntry, Transition};

const MACHINE: Capacity = Capacity {
    cpus: 4,
    memory_bytes: 1 << 30,
    gpus: 0,
};
const NOW: Timestamp = Timestamp::from_millis(1_000);

const TOOLS: &str = r#"
[tools.whole]
command = ["true"]
[tools.half]
command = ["true"]
needs = { cpus = 2 }
[tools.once]
command = ["true"]
on_interrupt = "fail"
"#;

fn state() -> State {
    let mut state = State::new(MACHINE, false);
    for tool in onelane_tools::parse_tools_file(TOOLS, Path::new("/"))
        .unwrap()
        .tools
    {
        let name = tool.name.clone();
        state.define(&name, Arc::new(tool));
    }
    state
}

fn job(n: u8, tool: &str) -> Job {
    Job {
        id: JobId::new(NOW, [n; 10]),
        seq: i64::from(n),
        owner: "anonymous".into(),
        tool: tool.into(),
        definition: tool.into(),
        name: None,
        tags: Vec::new(),
        priority: Priority::default(),
        order_key: OrderKey::new(Priority::default(), i64::from(n)),
        state: JobState::submitted(NOW),
        attempt: 0,
        stop_reason: None,
        digest: String::new(),
        result_of: None,
        created_at: NOW,
        changed_seq: 0,
    }
}

fn waits(job: &Job, after: Vec<JobId>) -> Event {
    let definition = job.definition.as_str().into();
    Event::Waits(QueueEntry {
        id: job.id,
        order_key: job.order_key,
        definition,
        after,
    })
}

/// What the store would answer.
fn after(mut job: Job, transition: &Transition) -> Job {
    assert_eq!(
        transition.from,
        (job.attempt, job.state.word()),
        "compare-and-set"
    );
    job.attempt = transition.attempt;
    job.state = transition.to.clone();
    job.stop_reason = transition.stop_reason;
    job
}

/// Runs events, carries out commits at once, and gives all other actions as short words.
struct World {
    state: State,
    jobs: Vec<Job>,
    interruptions: u32,
}

impl World {
    fn with(jobs: &[Job]) -> Self {
        Self {
            state: state(),
            jobs: jobs.to_vec(),
            interruptions: 0,
        }
    }

    fn feed(&mut self, event: Event) -> Vec<String> {
        let mut words = Vec::new();
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in step(&mut self.state, event, NOW) {
                match action {
                    Action::Load(id) => {
                        let job = self.job(id).clone();
                        events.push(Event::Loaded {
                            job,
                            interruptions: self.interruptions,
                        });
                    }
                    Action::Commit(transition) => events.push(self.commit(&transition)),
                    Action::QueueMoved => {}
                    other => words.push(word(&other)),
                }
            }
        }
        words
    }

    fn commit(&mut self, transition: &Transition) -> Event {
        let job = self
            .jobs
            .iter_mut()
            .find(|job| job.id == transition.id)
            .unwrap();
        *job = after(job.clone(), transition);
        Event::Committed(job.clone())
    }

    fn job(&self, id: JobId) -> &Job {
        self.jobs.iter().find(|job| job.id == id).unwrap()
    }

    fn states(&self) -> Vec<StateWord> {
        self.jobs.iter().map(|job| job.state.word()).collect()
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::Launch(job) => format!("launch {} attempt {}", job.seq, job.attempt),
        Action::Watch(_, attempt) => format!("watch attempt {attempt}"),
        Action::Stop(_, _, reason) => format!("stop {}", reason.as_str()),
        Action::Recover(_, attempt) => format!("recover attempt {attempt}"),
        other => panic!("{other:?}"),
    }
}

fn cancel(job: &Job) -> Event {
    Event::Cancel {
        id: job.id,
        order_key: job.order_key,
    }
}

fn first_attempt(job: JobId) -> AttemptId {
    AttemptId { job, attempt: 1 }
}

fn running(id: JobId) -> Event {
    let shim = ProcessRecord {
        pid: 7,
        start_time: 1,
        boot_id: "b".into(),
        pid_namespace: "n".into(),
    };
    let running = Running {
        shim,
        started_at: NOW,
        tool_version: None,
        level: onelane_exec::Level::Guard,
    };
    Event::Found {
        id: first_attempt(id),
        found: Found::Running(running),
    }
}

fn over(id: JobId, outcome: Outcome, stopped: Option<StopReason>) -> Event {
    let record = ExitRecord {
        protocol: 1,
        job: id,
        attempt: 1,
        outcome,
        stopped,
        started_at: Some(NOW),
        finished_at: NOW,
        usage: ToolUsage::default(),
        leftovers_killed: 0,
        level: onelane_exec::Level::Guard,
        proof: "echild".into(),
        tool_version: None,
        command: Vec::new(),
        logs: LogCounts::default(),
        trouble: None,
    };
    Event::Found {
        id: first_attempt(id),
        found: Found::Over(Verdict::Exited(Box::new(record))),
    }
}

fn exit(id: JobId, code: i32) -> Event {
    over(id, Outcome::Exit { code }, None)
}

fn cut_off(id: JobId) -> Event {
    over(
        id,
        Outcome::Interrupted {
            message: "cut off".into(),
        },
        None,
    )
}

#[test]
fn the_second_job_starts_when_the_first_has_ended_and_not_before() {
    let (first, second) = (job(1, "whole"), job(2, "whole"));
    let mut world = World::with(&[first.clone(), second.clone()]);
    assert_eq!(world.feed(waits(&first, vec![])), ["launch 1 attempt 1"]);
    assert_eq!(world.feed(waits(&second, vec![])), [""; 0]);
    assert_eq!(world.feed(running(first.id)), ["watch attempt 1"]);
    assert_eq!(world.feed(exit(first.id, 0)), ["launch 2 attempt 1"]);
    assert_eq!(world.states(), [StateWord::Succeeded, StateWord::Starting]);
}

#[test]
fn two_halves_run_side_by_side_and_nobody_passes_the_first_that_does_not_fit() {
    let jobs = [job(1, "half"), job(2, "whole"), job(3, "half")];
    let mut world = World::with(&jobs);
    assert_eq!(world.feed(waits(&jobs[0], vec![])), ["launch 1 attempt 1"]);
    assert_eq!(world.feed(waits(&jobs[1], vec![])), [""; 0]);
    assert_eq!(
        world.feed(waits(&jobs[2], vec![])),
        [""; 0],
        "3 would fit but may not pass 2"
    );
    let pair = [job(1, "half"), job(2, "half")];
    let mut world = World::with(&pair);
    world.feed(waits(&pair[0], vec![]));
    assert_eq!(world.feed(waits(&pair[1], vec![])), ["launch 2 attempt 1"]);
}

#[test]
fn a_paused_queue_starts_nothing() {
    let first = job(1, "whole");
    let mut world = World::with(std::slice::from_ref(&first));
    world.feed(Event::Pause);
    assert_eq!(world.feed(waits(&first, vec![])), [""; 0]);
    assert_eq!(world.feed(Event::Resume), ["launch 1 attempt 1"]);
}

#[test]
fn a_job_after_another_waits_for_its_end_and_lets_others_pass() {
    let jobs = [job(1, "whole"), job(2, "whole"), job(3, "whole")];
    let mut world = World::with(&jobs);
    world.feed(waits(&jobs[0], vec![]));
    world.feed(waits(&jobs[1], vec![jobs[2].id]));
    world.feed(waits(&jobs[2], vec![]));
    assert!(
        world
            .state
            .why(jobs[1].order_key)
            .contains(&jobs[2].id.to_string())
    );
    assert_eq!(world.feed(exit(jobs[0].id, 0)), ["launch 3 attempt 1"]);
    assert_eq!(
        world.feed(exit(jobs[2].id, 1)),
        ["launch 2 attempt 1"],
        "however it ended"
    );
}

#[test]
fn cancelling_a_waiting_job_ends_it_at_once() {
    let jobs = [job(1, "whole"), job(2, "whole")];
    let mut world = World::with(&jobs);
    world.feed(waits(&jobs[0], vec![]));
    world.feed(waits(&jobs[1], vec![]));
    assert_eq!(world.feed(cancel(&jobs[1])), [""; 0]);
    assert_eq!(world.states()[1], StateWord::Cancelled);
    assert_eq!(world.state.queued(), 0);
}

#[test]
fn cancelling_a_starting_job_stops_it_now_and_again_when_it_runs() {
    let first = job(1, "whole");
    let mut world = World::with(std::slice::from_ref(&first));
    world.feed(waits(&first, vec![]));
    assert_eq!(world.feed(cancel(&first)), ["stop cancel"]);
    assert_eq!(
        world.feed(running(first.id)),
        ["watch attempt 1", "stop cancel"]
    );
    world.feed(over(
        first.id,
        Outcome::Signal { signal: 15 },
        Some(StopReason::Cancel),
    ));
    assert_eq!(world.states(), [StateWord::Cancelled]);
}

#[test]
fn a_tool_that_had_ended_before_the_stop_reached_it_has_succeeded() {
    let first = job(1, "whole");
    let mut world = World::with(std::slice::from_ref(&first));
    world.feed(waits(&first, vec![]));
    world.feed(running(first.id));
    assert_eq!(world.feed(cancel(&first)), ["stop cancel"]);
    world.feed(exit(first.id, 0));
    assert_eq!(world.states(), [StateWord::Succeeded]);
}

#[test]
fn a_wish_that_comes_while_a_commit_is_under_way_is_not_lost() {
    let first = job(1, "whole");
    let mut state = state();
    step(&mut state, waits(&first, vec![]), NOW);
    let actions = step(
        &mut state,
        Event::Loaded {
            job: first.clone(),
            interruptions: 0,
        },
        NOW,
    );
    let [Action::Commit(claim)] = &actions[..] else {
        panic!("{actions:?}")
    };
    // Claimed on disk in a moment; the cancellation comes first.
    assert!(step(&mut state, cancel(&first), NOW).is_empty());
    let actions = step(&mut state, Event::Committed(after(first, claim)), NOW);
    let [Action::Commit(end)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(end.to.word(), StateWord::Cancelled, "nothing was launched");
}

#[test]
fn an_interrupted_job_is_queued_again_at_its_old_place_with_its_next_attempt() {
    let jobs = [job(1, "whole"), job(2, "whole")];
    let mut world = World::with(&jobs);
    world.feed(waits(&jobs[0], vec![]));
    world.feed(waits(&jobs[1], vec![]));
    world.feed(running(jobs[0].id));
    assert_eq!(world.feed(cut_off(jobs[0].id)), ["launch 1 attempt 2"]);
}

#[test]
fn a_third_interruption_in_one_boot_fails_the_job() {
    let first = job(1, "whole");
    let mut world = World {
        interruptions: 2,
        ..World::with(std::slice::from_ref(&first))
    };
    world.feed(waits(&first, vec![]));
    world.feed(running(first.id));
    world.feed(cut_off(first.id));
    assert_eq!(world.states(), [StateWord::Failed]);
}

#[test]
fn a_tool_that_must_not_run_twice_fails_on_its_first_interruption() {
    let first = job(1, "once");
    let mut world = World::with(std::slice::from_ref(&first));
    world.feed(waits(&first, vec![]));
    world.feed(cut_off(first.id));
    assert_eq!(world.states(), [StateWord::Failed]);
}

#[test]
fn what_cannot_be_proved_dead_keeps_the_machine() {
    let jobs = [job(1, "whole"), job(2, "whole")];
    let mut world = World::with(&jobs);
    world.feed(waits(&jobs[0], vec![]));
    world.feed(waits(&jobs[1], vec![]));
    let found = Found::Over(Verdict::Stuck {
        why: "unknown".into(),
    });
    assert_eq!(
        world.feed(Event::Found {
            id: first_attempt(jobs[0].id),
            found
        }),
        [""; 0]
    );
    assert!(matches!(
        world.jobs[0].state,
        JobState::Running { stuck: true, .. }
    ));
    assert_eq!(world.states()[1], StateWord::Queued);
}

#[test]
fn a_job_of_an_earlier_server_is_looked_at_before_anything_starts() {
    let mut first = job(1, "whole");
    first.state = first.state.apply(&JobEvent::Claim, NOW).unwrap();
    first.attempt = 1;
    let second = job(2, "whole");
    let mut world = World::with(&[first.clone(), second.clone()]);
    let adopted = world.feed(Event::WasAlive {
        job: first.clone(),
        interruptions: 0,
        record: None,
    });
    assert_eq!(adopted, ["recover attempt 1"]);
    assert_eq!(world.feed(waits(&second, vec![])), [""; 0]);
    assert_eq!(world.feed(running(first.id)), ["watch attempt 1"]);
    assert_eq!(world.feed(exit(first.id, 0)), ["launch 2 attempt 1"]);
}

#[test]
fn thousands_of_schedules_break_no_promise() {
    if let Err(broken) = simulation::simulate_all(0, 2_000, |_| ()) {
        panic!("{broken}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..50 {
        let (first, second) = (simulation::simulate(seed), simulation::simulate(seed));
        assert_eq!(first.unwrap(), second.unwrap(), "seed {seed}");
    }
}

/// Given a job whose interruption is on its way to the disk, when somebody cancels it, then it is not queued again for
/// good.
#[test]
fn a_wish_that_comes_while_a_job_is_queued_again_is_not_lost() {
    let first = job(1, "whole");
    let mut world = World::with(std::slice::from_ref(&first));
    world.feed(waits(&first, vec![]));
    world.feed(running(first.id));
    let actions = step(&mut world.state, cut_off(first.id), NOW);
    let [Action::Commit(requeue)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert!(step(&mut world.state, cancel(&first), NOW).is_empty());
    let requeued = world.commit(requeue);
    assert_eq!(world.feed(requeued), [""; 0]);
    assert_eq!(world.states(), [StateWord::Cancelled]);
}

#[test]
fn a_cancellation_read_before_the_job_was_queued_again_ends_it_as_it_is_now() {
    let first = job(1, "whole");
    let mut world = World::with(std::slice::from_ref(&first));
    world.feed(waits(&first, vec![]));
    world.feed(running(first.id));
    world.feed(Event::Pause);
    world.feed(cut_off(first.id));
    assert_eq!(world.states(), [StateWord::Queued]);
    assert_eq!(world.feed(cancel(&first)), [""; 0]);
    assert_eq!(world.states(), [StateWord::Cancelled]);
}

#[test]
fn cancelling_a_job_that_is_read_for_its_claim_ends_it_without_an_attempt() {
    let first = job(1, "whole");
    let mut state = state();
    step(&mut state, waits(&first, vec![]), NOW);
    assert!(step(&mut state, cancel(&first), NOW).is_empty());
    let loaded = Event::Loaded {
        job: first,
        interruptions: 0,
    };
    let actions = step(&mut state, loaded, NOW);
    let [Action::Commit(end)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!((end.to.word(), end.attempt), (StateWord::Cancelled, 0));
}

#[test]
fn a_word_about_an_earlier_attempt_comes_too_late() {
    let first = job(1, "whole");
    let mut world = World::with(std::slice::from_ref(&first));
    world.feed(waits(&first, vec![]));
    assert_eq!(world.feed(cut_off(first.id)), ["launch 1 attempt 2"]);
    assert_eq!(world.feed(exit(first.id, 0)), [""; 0]);
    assert_eq!(world.states(), [StateWord::Starting]);
}

#[test]
fn an_adopted_attempt_keeps_its_record() {
    let mut first = job(1, "whole");
    let mut earlier = state();
    step(&mut earlier, waits(&first, vec![]), NOW);
    let loaded = Event::Loaded {
        job: first.clone(),
        interruptions: 0,
    };
    let actions = step(&mut earlier, loaded, NOW);
    let [Action::Commit(claim)] = &actions[..] else {
        panic!("{actions:?}")
    };
    first = after(first, claim);
    let adopted = Event::WasAlive {
        job: first.clone(),
        interruptions: 0,
        record: claim.record.clone().map(Box::new),
    };
    let mut state = state();
    step(&mut state, adopted, NOW);
    let later = Timestamp::from_millis(9_000);
    let actions = step(&mut state, exit(first.id, 0), later);
    let [Action::Commit(end)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(end.record.as_ref().unwrap().claimed_at, NOW);
}

#[test]
fn a_job_that_is_gone_is_waited_for_no_longer() {
    let jobs = [job(1, "whole"), job(2, "whole")];
    let mut state = state();
    step(&mut state, waits(&jobs[0], vec![]), NOW);
    step(&mut state, waits(&jobs[1], vec![jobs[0].id]), NOW);
    let actions = step(&mut state, Event::Gone(jobs[0].id), NOW);
    let [Action::Load(id), Action::QueueMoved] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(*id, jobs[1].id);
}
