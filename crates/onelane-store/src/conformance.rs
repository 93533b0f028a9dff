//! What every store must do, as sentences: a store is done when it passes all of them.
//!
//! [`conformance_suite!`](crate::conformance_suite) turns them into tests of one store.

use std::sync::{Arc, Mutex, PoisonError};

use onelane_core::{
    Failure, FailureKind, Job, JobId, JobState, Priority, StateWord, StopReason, Timestamp,
};

use crate::{
    AttemptRecord, Change, Idempotency, InputContent, InputFile, JobFilter, JobInput, NewJob,
    Particulars, QueueEntry, Result, ShimProcess, Store, StoreError, Transition, Usage,
};

/// Makes a test of each sentence. The argument is an expression, evaluated anew for each test, that gives a pair: an
/// `Arc` of an empty store, and whatever must live as long as it does.
#[macro_export]
macro_rules! conformance_suite {
    ($open:expr) => {
        $crate::conformance_suite! { @each $open;
            a_submission_gets_the_next_seq_and_reads_back_as_it_was_answered
            a_job_that_nobody_submitted_is_not_there
            an_input_reads_back_as_it_was_given
            a_job_is_shown_with_its_parameters_notes_and_last_attempt
            a_submission_under_an_unknown_definition_is_refused
            the_same_id_twice_is_refused_and_the_first_stays
            a_key_sent_again_gives_the_same_job_and_makes_none
            a_key_with_another_request_is_refused
            keys_belong_to_their_owner
            a_key_is_free_again_when_its_job_was_deleted
            a_replay_is_found_before_any_work
            a_transition_moves_the_job_and_raises_changed_seq
            a_transition_from_an_old_attempt_changes_nothing
            a_transition_from_another_state_changes_nothing
            a_transition_of_no_job_says_so
            of_two_claims_at_once_one_wins
            every_state_reads_back_as_it_was_written
            every_failure_reads_back_as_it_was_written
            every_stop_reason_reads_back_as_it_was_written
            a_cancelled_job_has_a_finish_time
            an_attempt_is_written_with_its_transition_and_replaced_by_the_next
            attempts_are_listed_first_one_first
            a_transition_that_fails_leaves_no_attempt
            lists_are_newest_first_and_bounded
            a_list_goes_on_before_its_cursor
            a_list_is_narrowed_by_state
            a_list_is_narrowed_by_tool
            a_list_is_narrowed_by_owner
            a_list_is_narrowed_by_tag
            a_list_is_narrowed_by_name
            a_list_is_narrowed_by_id
            values_of_a_field_are_alternatives_and_fields_narrow_each_other
            ids_are_found_by_suffixes_of_any_length
            a_suffix_that_no_id_has_finds_nothing
            only_ended_jobs_are_deleted
            deleting_takes_input_attempts_and_tags_along
            a_seq_is_never_given_twice
            the_queue_is_in_order_of_priority_and_then_of_seq
            a_claimed_job_leaves_the_queue_and_keeps_its_place_when_it_returns
            alive_is_what_is_starting_or_running
            a_job_waits_for_earlier_ones_only_until_they_end
            a_definition_is_kept_under_its_hash_and_never_replaced
            a_setting_is_the_last_one_written
            changes_are_told_in_the_order_of_their_commits
            a_change_is_told_before_its_caller_has_the_answer
            a_replay_and_a_refusal_are_no_changes
            two_hundred_submissions_at_once_all_get_their_own_place
        }
    };
    (@each $open:expr; $($sentence:ident)+) => {
        $(
            #[tokio::test]
            async fn $sentence() {
                let (store, _guard) = $open;
                $crate::conformance::$sentence(store).await.unwrap();
            }
        )+
    };
}

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const LATER: Timestamp = Timestamp::from_millis(1_700_000_060_000);
const HASH: &str = "b7e2";

/// The id of the n-th job of a test; its last digits are n.
fn id(n: u16) -> JobId {
    let [high, low] = n.to_be_bytes();
    JobId::new(NOW, [0, 0, 0, 0, 0, 0, 0, 0, high, low])
}

fn new(n: u16) -> NewJob {
    NewJob {
        id: id(n),
        owner: "ada".into(),
        tool: "blastp".into(),
        definition: HASH.into(),
        name: None,
        tags: Vec::new(),
        priority: Priority::default(),
        after: Vec::new(),
        digest: format!("digest {n}"),
        input: JobInput::default(),
        idempotency: None,
        created_at: NOW,
    }
}

fn with_key(n: u16, key: &str, request_hash: &str) -> NewJob {
    let idempotency = Some(key_of(key, request_hash));
    NewJob {
        idempotency,
        ..new(n)
    }
}

fn key_of(key: &str, request_hash: &str) -> Idempotency {
    Idempotency {
        key: key.into(),
        request_hash: request_hash.into(),
    }
}

fn urgent(n: u16, priority: i32) -> NewJob {
    let priority = Priority::try_from(priority).unwrap_or_default();
    NewJob { priority, ..new(n) }
}

fn waiting_for(n: u16, after: Vec<JobId>) -> NewJob {
    NewJob { after, ..new(n) }
}

async fn submit(store: &impl Store, job: NewJob) -> Result<Job> {
    store.define(HASH, "{}").await?;
    Ok(store.submit(job).await?.job)
}

async fn submit_many(store: &impl Store, count: u16) -> Result<()> {
    for n in 1..=count {
        submit(store, new(n)).await?;
    }
    Ok(())
}

fn to(job: &Job, state: JobState) -> Transition {
    Transition {
        id: job.id,
        from: (job.attempt, job.state.word()),
        attempt: job.attempt,
        to: state,
        stop_reason: job.stop_reason,
        record: None,
        durable: true,
    }
}

fn claim(job: &Job) -> Transition {
    let attempt = job.attempt + 1;
    let state = JobState::Starting { claimed_at: NOW };
    Transition {
        attempt,
        ..to(job, state)
    }
}

const fn queued() -> JobState {
    JobState::Queued { ready_at: LATER }
}

const fn running(stuck: bool) -> JobState {
    let started_at = NOW;
    JobState::Running { started_at, stuck }
}

const fn succeeded() -> JobState {
    JobState::Succeeded {
        started_at: NOW,
        finished_at: LATER,
    }
}

const fn cancelled() -> JobState {
    JobState::Cancelled {
        started_at: None,
        finished_at: LATER,
    }
}

fn failed(kind: FailureKind) -> JobState {
    JobState::Failed {
        started_at: Some(NOW),
        finished_at: LATER,
        failure: Failure::new(kind, "see the log"),
    }
}

async fn submit_ended(store: &impl Store, n: u16) -> Result<Job> {
    let job = submit(store, new(n)).await?;
    store.transition(to(&job, cancelled())).await
}

fn record(job: &Job, attempt: u32) -> AttemptRecord {
    AttemptRecord {
        job: job.id,
        attempt,
        claimed_at: NOW,
        boot_id: None,
        started_at: None,
        finished_at: None,
        shim: None,
        tool_version: None,
        outcome: None,
        exit_code: None,
        usage: None,
        process_control: None,
    }
}

fn full_record(job: &Job, attempt: u32) -> AttemptRecord {
    AttemptRecord {
        boot_id: Some("boot".into()),
        started_at: Some(NOW),
        finished_at: Some(LATER),
        shim: Some(ShimProcess {
            pid: 4242,
            start_time: 99_000_000,
            boot_id: "boot".into(),
            pid_namespace: "pid:[4026531836]".into(),
        }),
        tool_version: Some("2.16.0+".into()),
        outcome: Some("exit".into()),
        exit_code: Some(4),
        usage: Some(Usage {
            wall_s: 60.5,
            cpu_s: 120.25,
            memory_peak_bytes: 8 << 30,
        }),
        process_control: Some("cgroup".into()),
        ..record(job, attempt)
    }
}

async fn list(store: &impl Store, filter: JobFilter) -> Result<Vec<JobId>> {
    let limit = if filter.limit == 0 { 100 } else { filter.limit };
    let jobs = store.jobs(JobFilter { limit, ..filter }).await?;
    Ok(jobs.iter().map(|job| job.id).collect())
}

async fn entries(store: &impl Store) -> Result<Vec<QueueEntry>> {
    let (seen, shown) = std::sync::mpsc::channel();
    let see = move |entry| drop(seen.send(entry));
    store.queue(Box::new(see)).await?;
    Ok(shown.try_iter().collect())
}

async fn queue(store: &impl Store) -> Result<Vec<JobId>> {
    let queue = entries(store).await?;
    Ok(queue.iter().map(|entry| entry.id).collect())
}

/// Collects the changes that a store tells.
fn listen(store: &impl Store) -> Arc<Mutex<Vec<Change>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    store.subscribe(Box::new(move |change| {
        ear.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(change);
    }));
    heard
}

fn words(heard: &Mutex<Vec<Change>>) -> Vec<(JobId, &'static str)> {
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let word = |change: &Change| match change {
        Change::Submitted(job, _) => (job.id, "submitted"),
        Change::Moved(job) => (job.id, job.state.word().as_str()),
        Change::Removed(id) => (*id, "removed"),
    };
    heard.iter().map(word).collect()
}

/// The sentences take the store by `Arc`, so that some can share it between tasks.
macro_rules! sentences {
    ($($name:ident($store:ident) $body:block)+) => {
        $(
            #[doc = concat!("`", stringify!($name), "`, on an empty store.")]
            ///
            /// # Errors
            /// What the store answered where it should not have.
            ///
            /// # Panics
            /// If the sentence does not hold.
            pub async fn $name<S: Store>($store: Arc<S>) -> Result<()> {
                let $store = &*$store;
                $body
                Ok(())
            }
        )+
    };
}

sentences! {
    a_submission_gets_the_next_seq_and_reads_back_as_it_was_answered(store) {
        let tags = vec!["a b".into(), "ü\"".into()];
        let first = submit(store, NewJob { name: Some("P53".into()), tags, ..urgent(1, 7) }).await?;
        let second = submit(store, new(2)).await?;
        assert!(second.seq > first.seq && second.changed_seq > first.changed_seq);
        assert_eq!(first.state, JobState::submitted(NOW));
        assert_eq!((first.attempt, first.tags.len()), (0, 2));
        assert_eq!(store.job(first.id).await?, Some(first));
    }

    a_job_that_nobody_submitted_is_not_there(store) {
        assert_eq!(store.job(id(1)).await?, None);
        assert_eq!(store.input(id(1)).await?, None);
        assert_eq!(store.attempts(id(1)).await?, []);
    }

    an_input_reads_back_as_it_was_given(store) {
        let file = |content| InputFile { param: "query".into(), file: "query.fasta".into(), content };
        let input = JobInput {
            params: [("evalue".to_owned(), serde_json::json!(1e-3))].into_iter().collect(),
            files: vec![
                file(InputContent::Inline(">a\nMK\u{0}\"".into())),
                file(InputContent::Upload("1/query".into())),
            ],
            notes: vec!["a byte order mark was dropped".into()],
        };
        submit(store, NewJob { input: input.clone(), ..new(1) }).await?;
        assert_eq!(store.input(id(1)).await?, Some(input));
    }

    a_job_is_shown_with_its_parameters_notes_and_last_attempt(store) {
        let input = JobInput {
            params: [("evalue".to_owned(), serde_json::json!(1e-3))].into_iter().collect(),
            notes: vec!["a byte order mark was dropped".into()],
            ..JobInput::default()
        };
        let job = submit(store, NewJob { input: input.clone(), ..new(1) }).await?;
        let mut known = Particulars { params: input.params, notes: input.notes, last_attempt: None };
        assert_eq!(store.shown(id(1)).await?, Some((job.clone(), known.clone())));
        let claimed = Transition { record: Some(record(&job, 1)), ..claim(&job) };
        let claimed = store.transition(claimed).await?;
        known.last_attempt = store.attempts(id(1)).await?.pop();
        assert!(known.last_attempt.is_some());
        assert_eq!(store.shown(id(1)).await?, Some((claimed.clone(), known.clone())));
        let several = store.particulars(vec![id(9), id(1)]).await?;
        assert_eq!(several, [Particulars::default(), known]);
        assert_eq!(store.shown(id(9)).await?, None);
        let attempts = store.attempts(id(1)).await?;
        let whole = Some((claimed, attempts, store.input(id(1)).await?.unwrap_or_default()));
        assert_eq!(store.to_start(id(1)).await?, whole);
        assert_eq!(store.to_start(id(9)).await?, None);
    }

    a_submission_under_an_unknown_definition_is_refused(store) {
        assert!(store.submit(new(1)).await.is_err());
        assert_eq!(store.job(id(1)).await?, None);
    }

    the_same_id_twice_is_refused_and_the_first_stays(store) {
        let first = submit(store, new(1)).await?;
        assert!(submit(store, NewJob { owner: "eve".into(), ..new(1) }).await.is_err());
        assert_eq!(store.job(id(1)).await?, Some(first));
    }

    a_key_sent_again_gives_the_same_job_and_makes_none(store) {
        let first = submit(store, with_key(1, "k", "h")).await?;
        let again = store.submit(with_key(2, "k", "h")).await?;
        assert!(again.replayed);
        assert_eq!(again.job, first);
        assert_eq!(queue(store).await?, [id(1)]);
    }

    a_key_with_another_request_is_refused(store) {
        submit(store, with_key(1, "k", "h")).await?;
        let refused = store.submit(with_key(2, "k", "other")).await;
        assert!(matches!(refused, Err(StoreError::KeyReused(first)) if first == id(1)));
        assert_eq!(queue(store).await?, [id(1)]);
    }

    keys_belong_to_their_owner(store) {
        submit(store, with_key(1, "k", "h")).await?;
        let bob = NewJob { owner: "bob".into(), ..with_key(2, "k", "other") };
        assert!(!store.submit(bob).await?.replayed);
    }

    a_key_is_free_again_when_its_job_was_deleted(store) {
        let job = submit(store, with_key(1, "k", "h")).await?;
        store.transition(to(&job, cancelled())).await?;
        store.remove(job.id).await?;
        assert_eq!(store.replay("ada", &key_of("k", "h")).await?, None);
        assert!(!store.submit(with_key(2, "k", "other")).await?.replayed);
        assert!(store.submit(with_key(3, "k", "other")).await?.replayed);
    }

    a_replay_is_found_before_any_work(store) {
        assert_eq!(store.replay("ada", &key_of("k", "h")).await?, None);
        let job = submit(store, with_key(1, "k", "h")).await?;
        assert_eq!(store.replay("ada", &key_of("k", "h")).await?, Some(job));
        let refused = store.replay("ada", &key_of("k", "other")).await;
        assert!(matches!(refused, Err(StoreError::KeyReused(_))));
    }

    a_transition_moves_the_job_and_raises_changed_seq(store) {
        let waiting = submit(store, new(1)).await?;
        let newest = submit(store, new(2)).await?;
        let claimed = store.transition(claim(&waiting)).await?;
        assert_eq!((claimed.attempt, claimed.state.word()), (1, StateWord::Starting));
        assert!(claimed.changed_seq > newest.changed_seq);
        assert_eq!((claimed.seq, claimed.order_key), (waiting.seq, waiting.order_key));
        assert_eq!(store.job(id(1)).await?, Some(claimed));
    }

    a_transition_from_an_old_attempt_changes_nothing(store) {
        let waiting = submit(store, new(1)).await?;
        let first = store.transition(claim(&waiting)).await?;
        let again = store.transition(to(&first, queued())).await?;
        let second = store.transition(claim(&again)).await?;
        let late = store.transition(to(&first, succeeded())).await;
        assert!(matches!(late, Err(StoreError::Moved(job)) if job == id(1)));
        assert_eq!(store.job(id(1)).await?, Some(second));
    }

    a_transition_from_another_state_changes_nothing(store) {
        let waiting = submit(store, new(1)).await?;
        let ended = store.transition(to(&waiting, cancelled())).await?;
        let late = store.transition(claim(&waiting)).await;
        assert!(matches!(late, Err(StoreError::Moved(_))));
        assert_eq!(store.job(id(1)).await?, Some(ended));
    }

    a_transition_of_no_job_says_so(store) {
        let mut job = submit(store, new(1)).await?;
        job.id = id(2);
        let nowhere = store.transition(claim(&job)).await;
        assert!(matches!(nowhere, Err(StoreError::NoSuchJob(job)) if job == id(2)));
    }

    of_two_claims_at_once_one_wins(store) {
        let job = submit(store, new(1)).await?;
        let (one, two) = tokio::join!(store.transition(claim(&job)), store.transition(claim(&job)));
        assert_ne!(one.is_ok(), two.is_ok());
    }

    every_state_reads_back_as_it_was_written(store) {
        let mut job = submit(store, new(1)).await?;
        let starting = JobState::Starting { claimed_at: LATER };
        let states = [starting, running(false), running(true), queued(), succeeded(), cancelled()];
        for state in states {
            job = store.transition(to(&job, state.clone())).await?;
            assert_eq!(job.state, state);
            assert_eq!(store.job(job.id).await?.map(|job| job.state), Some(state));
        }
    }

    every_failure_reads_back_as_it_was_written(store) {
        use FailureKind as K;
        let mut job = submit(store, new(1)).await?;
        let kinds = [
            K::Exit { code: 4 }, K::Signal { signal: 11 }, K::TimedOut, K::OutOfMemory, K::OutputLimit,
            K::StartFailed, K::Interrupted, K::NodeFailed, K::Preempted, K::Unknown,
        ];
        for kind in kinds {
            job = store.transition(to(&job, failed(kind.clone()))).await?;
            assert_eq!(job.state, failed(kind));
        }
    }

    every_stop_reason_reads_back_as_it_was_written(store) {
        use StopReason as R;
        let mut job = submit(store, new(1)).await?;
        for reason in [R::Cancel, R::Time, R::Memory, R::Output, R::Shutdown] {
            let stop_reason = Some(reason);
            job = store.transition(Transition { stop_reason, ..to(&job, running(false)) }).await?;
            assert_eq!(job.stop_reason, stop_reason);
        }
        job = store.transition(Transition { stop_reason: None, ..to(&job, queued()) }).await?;
        assert_eq!(job.stop_reason, None);
    }

    a_cancelled_job_has_a_finish_time(store) {
        let job = submit_ended(store, 1).await?;
        assert_eq!(job.state.finished_at(), Some(LATER));
        assert_eq!(job.state.started_at(), None);
    }

    an_attempt_is_written_with_its_transition_and_replaced_by_the_next(store) {
        let job = submit(store, new(1)).await?;
        let begun = Transition { record: Some(record(&job, 1)), ..claim(&job) };
        let job = store.transition(begun).await?;
        assert_eq!(store.attempts(job.id).await?, [record(&job, 1)]);
        let ended = Transition { record: Some(full_record(&job, 1)), ..to(&job, succeeded()) };
        store.transition(ended).await?;
        assert_eq!(store.attempts(job.id).await?, [full_record(&job, 1)]);
    }

    attempts_are_listed_first_one_first(store) {
        let mut job = submit(store, new(1)).await?;
        for attempt in 1..=3 {
            let begun = Transition { record: Some(record(&job, attempt)), ..claim(&job) };
            job = store.transition(begun).await?;
            job = store.transition(to(&job, queued())).await?;
        }
        let attempts = store.attempts(job.id).await?;
        let numbers: Vec<u32> = attempts.iter().map(|record| record.attempt).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }

    a_transition_that_fails_leaves_no_attempt(store) {
        let job = submit(store, new(1)).await?;
        store.transition(claim(&job)).await?;
        let late = Transition { record: Some(record(&job, 1)), ..claim(&job) };
        assert!(store.transition(late).await.is_err());
        assert_eq!(store.attempts(job.id).await?, []);
    }

    lists_are_newest_first_and_bounded(store) {
        submit_many(store, 5).await?;
        let page = list(store, JobFilter { limit: 3, ..JobFilter::default() }).await?;
        assert_eq!(page, [id(5), id(4), id(3)]);
    }

    a_list_goes_on_before_its_cursor(store) {
        submit_many(store, 5).await?;
        let third = store.job(id(3)).await?.ok_or(StoreError::NoSuchJob(id(3)))?;
        let rest = list(store, JobFilter { before_seq: Some(third.seq), ..JobFilter::default() }).await?;
        assert_eq!(rest, [id(2), id(1)]);
    }

    a_list_is_narrowed_by_state(store) {
        submit_many(store, 3).await?;
        submit_ended(store, 4).await?;
        let filter = |states: &[StateWord]| JobFilter { states: states.to_vec(), ..JobFilter::default() };
        assert_eq!(list(store, filter(&[StateWord::Cancelled])).await?, [id(4)]);
        assert_eq!(list(store, filter(&[StateWord::Queued])).await?, [id(3), id(2), id(1)]);
        assert_eq!(list(store, filter(&StateWord::ALL)).await?.len(), 4);
        assert_eq!(list(store, filter(&[StateWord::Failed])).await?, []);
        let second = store.job(id(2)).await?.ok_or(StoreError::NoSuchJob(id(2)))?;
        store.transition(claim(&second)).await?;
        assert_eq!(list(store, filter(&[StateWord::Queued])).await?, [id(3), id(1)]);
        assert_eq!(list(store, filter(&[StateWord::Starting])).await?, [id(2)]);
        assert_eq!(list(store, filter(&[StateWord::Running])).await?, []);
        let page = JobFilter { before_seq: Some(3), limit: 1, ..filter(&[StateWord::Queued]) };
        assert_eq!(list(store, page).await?, [id(1)]);
    }

    a_list_is_narrowed_by_tool(store) {
        submit(store, new(1)).await?;
        submit(store, NewJob { tool: "hmmscan".into(), ..new(2) }).await?;
        let tools = vec!["hmmscan".into()];
        assert_eq!(list(store, JobFilter { tools, ..JobFilter::default() }).await?, [id(2)]);
    }

    a_list_is_narrowed_by_owner(store) {
        submit(store, new(1)).await?;
        submit(store, NewJob { owner: "bob".into(), ..new(2) }).await?;
        let owners = vec!["bob".into()];
        assert_eq!(list(store, JobFilter { owners, ..JobFilter::default() }).await?, [id(2)]);
    }

    a_list_is_narrowed_by_tag(store) {
        let tagged = |n, tags: &[&str]| {
            NewJob { tags: tags.iter().map(ToString::to_string).collect(), ..new(n) }
        };
        submit(store, tagged(1, &["a", "b"])).await?;
        submit(store, tagged(2, &["b"])).await?;
        submit(store, tagged(3, &[])).await?;
        let filter = |tags: &[&str]| {
            JobFilter { tags: tags.iter().map(ToString::to_string).collect(), ..JobFilter::default() }
        };
        assert_eq!(list(store, filter(&["a"])).await?, [id(1)]);
        assert_eq!(list(store, filter(&["a", "b"])).await?, [id(2), id(1)]);
    }

    a_list_is_narrowed_by_name(store) {
        submit(store, NewJob { name: Some("P53".into()), ..new(1) }).await?;
        submit(store, new(2)).await?;
        let names = vec!["P53".into()];
        assert_eq!(list(store, JobFilter { names, ..JobFilter::default() }).await?, [id(1)]);
    }

    a_list_is_narrowed_by_id(store) {
        submit_many(store, 3).await?;
        let ids = vec![id(1), id(3), id(9)];
        assert_eq!(list(store, JobFilter { ids, ..JobFilter::default() }).await?, [id(3), id(1)]);
    }

    values_of_a_field_are_alternatives_and_fields_narrow_each_other(store) {
        let by = |n, owner: &str, tool: &str| NewJob { owner: owner.into(), tool: tool.into(), ..new(n) };
        submit(store, by(1, "ada", "blastp")).await?;
        submit(store, by(2, "ada", "hmmscan")).await?;
        submit(store, by(3, "bob", "blastp")).await?;
        submit(store, by(4, "eve", "blastp")).await?;
        let filter = JobFilter {
            owners: vec!["ada".into(), "bob".into()],
            tools: vec!["blastp".into()],
            states: vec![StateWord::Queued],
            ..JobFilter::default()
        };
        assert_eq!(list(store, filter).await?, [id(3), id(1)]);
    }

    ids_are_found_by_suffixes_of_any_length(store) {
        submit_many(store, 40).await?;
        let text = id(0x1f).to_string();
        assert_eq!(store.ids_by_suffix("f", 10).await?, [id(0x1f), id(0xf)]);
        assert_eq!(store.ids_by_suffix("f", 1).await?, [id(0x1f)]);
        for length in [2, 4, 7, 8, 9, 12, 13, 14, 36] {
            let found = store.ids_by_suffix(&text[36 - length..], 10).await?;
            assert_eq!(found, [id(0x1f)], "{length}");
        }
        assert_eq!(store.ids_by_suffix("1F", 10).await?, [id(0x1f)]);
        let ended = store.job(id(0x1f)).await?.ok_or(StoreError::NoSuchJob(id(0x1f)))?;
        store.transition(to(&ended, cancelled())).await?;
        for length in [1, 4, 8, 36] {
            let suffix = &text[36 - length..];
            assert!(store.ids_by_suffix(suffix, 10).await?.contains(&id(0x1f)), "{length}");
        }
    }

    a_suffix_that_no_id_has_finds_nothing(store) {
        submit_many(store, 3).await?;
        for suffix in ["9", "ffffff", "f00000000001", "-0001", "xyz", "%", "01f%"] {
            assert_eq!(store.ids_by_suffix(suffix, 10).await?, [], "{suffix}");
        }
    }

    only_ended_jobs_are_deleted(store) {
        let job = submit(store, new(1)).await?;
        let refused = store.remove(job.id).await;
        assert!(matches!(refused, Err(StoreError::Alive(alive)) if alive == job.id));
        let claimed = store.transition(claim(&job)).await?;
        assert!(matches!(store.remove(job.id).await, Err(StoreError::Alive(_))));
        store.transition(to(&claimed, succeeded())).await?;
        store.remove(job.id).await?;
        assert_eq!(store.job(job.id).await?, None);
        assert!(matches!(store.remove(job.id).await, Err(StoreError::NoSuchJob(_))));
    }

    deleting_takes_input_attempts_and_tags_along(store) {
        let tags = vec!["a".to_owned()];
        let job = submit(store, NewJob { tags: tags.clone(), ..new(1) }).await?;
        let ended = Transition { record: Some(record(&job, 1)), ..to(&job, cancelled()) };
        store.transition(ended).await?;
        store.remove(job.id).await?;
        assert_eq!(store.input(job.id).await?, None);
        assert_eq!(store.attempts(job.id).await?, []);
        assert_eq!(list(store, JobFilter { tags, ..JobFilter::default() }).await?, []);
    }

    a_seq_is_never_given_twice(store) {
        let first = submit_ended(store, 1).await?;
        store.remove(first.id).await?;
        let second = submit(store, new(2)).await?;
        assert!(second.seq > first.seq && second.changed_seq > first.changed_seq);
    }

    the_queue_is_in_order_of_priority_and_then_of_seq(store) {
        for (n, priority) in [(1, 0), (2, 10), (3, -5), (4, 0), (5, 10), (6, 100), (7, -100)] {
            submit(store, urgent(n, priority)).await?;
        }
        assert_eq!(queue(store).await?, [6, 2, 5, 1, 4, 3, 7].map(id));
        assert!(entries(store).await?.iter().all(|entry| &*entry.definition == HASH));
    }

    a_claimed_job_leaves_the_queue_and_keeps_its_place_when_it_returns(store) {
        submit_many(store, 3).await?;
        let first = store.job(id(1)).await?.ok_or(StoreError::NoSuchJob(id(1)))?;
        let claimed = store.transition(claim(&first)).await?;
        assert_eq!(queue(store).await?, [id(2), id(3)]);
        store.transition(to(&claimed, queued())).await?;
        assert_eq!(queue(store).await?, [id(1), id(2), id(3)]);
    }

    alive_is_what_is_starting_or_running(store) {
        submit(store, new(1)).await?;
        submit_ended(store, 2).await?;
        let waiting = submit(store, new(3)).await?;
        let starting = store.transition(claim(&waiting)).await?;
        let waiting = submit(store, new(4)).await?;
        let claimed = store.transition(claim(&waiting)).await?;
        let stuck = store.transition(to(&claimed, running(true))).await?;
        assert_eq!(store.alive().await?, [starting, stuck]);
    }

    a_job_waits_for_earlier_ones_only_until_they_end(store) {
        let heard = listen(store);
        let first = submit(store, new(1)).await?;
        submit_ended(store, 2).await?;
        submit(store, waiting_for(3, vec![id(1), id(2), id(77)])).await?;
        let told = heard.lock().unwrap_or_else(PoisonError::into_inner).pop();
        assert!(matches!(told, Some(Change::Submitted(_, entry)) if entry.after == [id(1)]));
        assert_eq!(entries(store).await?[1].after, [id(1)]);
        let claimed = store.transition(claim(&first)).await?;
        assert_eq!(entries(store).await?[0].after, [id(1)]);
        store.transition(to(&claimed, failed(FailureKind::TimedOut))).await?;
        assert_eq!(entries(store).await?[0].after, []);
    }

    a_definition_is_kept_under_its_hash_and_never_replaced(store) {
        assert_eq!(store.definition("h").await?, None);
        store.define("h", "{}").await?;
        store.define("h", "{\"other\":1}").await?;
        assert_eq!(store.definition("h").await?.as_deref(), Some("{}"));
    }

    a_setting_is_the_last_one_written(store) {
        assert_eq!(store.setting("paused").await?, None);
        store.set_setting("paused", "true").await?;
        store.set_setting("paused", "false").await?;
        assert_eq!(store.setting("paused").await?.as_deref(), Some("false"));
    }

    changes_are_told_in_the_order_of_their_commits(store) {
        let heard = listen(store);
        let job = submit(store, new(1)).await?;
        let claimed = store.transition(claim(&job)).await?;
        submit(store, new(2)).await?;
        store.transition(to(&claimed, succeeded())).await?;
        store.remove(job.id).await?;
        let expected = [
            (id(1), "submitted"), (id(1), "starting"), (id(2), "submitted"), (id(1), "succeeded"), (id(1), "removed"),
        ];
        assert_eq!(words(&heard), expected);
    }

    a_change_is_told_before_its_caller_has_the_answer(store) {
        let heard = listen(store);
        for n in 1..=20 {
            submit(store, new(n)).await?;
            assert_eq!(words(&heard).last(), Some(&(id(n), "submitted")));
        }
    }

    a_replay_and_a_refusal_are_no_changes(store) {
        let job = submit(store, with_key(1, "k", "h")).await?;
        let heard = listen(store);
        store.submit(with_key(2, "k", "h")).await?;
        assert!(store.submit(with_key(3, "k", "other")).await.is_err());
        assert!(store.remove(job.id).await.is_err());
        store.set_setting("paused", "true").await?;
        assert_eq!(words(&heard), []);
    }
}

/// `two_hundred_submissions_at_once_all_get_their_own_place`, on an empty store.
///
/// # Errors
/// What the store answered where it should not have.
///
/// # Panics
/// If the sentence does not hold.
pub async fn two_hundred_submissions_at_once_all_get_their_own_place<S: Store>(
    store: Arc<S>,
) -> Result<()> {
    store.define(HASH, "{}").await?;
    let heard = listen(&*store);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 1..=200 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.submit(new(n)).await });
    }
    let mut answered = tasks
        .join_all()
        .await
        .into_iter()
        .map(|answer| answer.map(|submitted| (submitted.job.seq, submitted.job.id)))
        .collect::<Result<Vec<_>>>()?;
    answered.sort_unstable();
    answered.dedup_by_key(|(seq, _)| *seq);
    assert_eq!(answered.len(), 200);
    let by_seq: Vec<JobId> = answered.iter().map(|(_, id)| *id).collect();
    assert_eq!(queue(&*store).await?, by_seq);
    let told: Vec<JobId> = words(&heard).iter().map(|(id, _)| *id).collect();
    assert_eq!(told, by_seq);
    Ok(())
}
