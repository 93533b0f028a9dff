//! The load: clients that write down what they ask for before they ask, and what was acknowledged.

use std::sync::Arc;

use reqwest::Method;
use serde_json::Value;

use super::check::Marks;
use super::{Acknowledged, Cancelled, Dice, World, is_stuck, pause, some_job, text};
use crate::hostile_child::monotonic_ns;
use crate::is_final;

/// So many jobs wait at most, so that the end is not far.
const BACKLOG: u64 = 12;

/// Submits, cancels, deletes and looks, until the end; a submission that was begun is always carried through.
pub(super) async fn client(world: Arc<World>, number: u64, mut dice: Dice) {
    let mut submitted = 0;
    while world.going_on() {
        match dice.below(100) {
            0..50 => {
                if backlog(&world).await < BACKLOG {
                    submitted += 1;
                    submit(&world, &mut dice, format!("k{number}-{submitted}")).await;
                } else {
                    pause(30).await;
                }
            }
            50..54 => cancel(&world, &mut dice).await,
            54..58 => delete(&world, &mut dice).await,
            _ => look(&world, &mut dice).await,
        }
    }
}

async fn backlog(world: &World) -> u64 {
    let queue = world.ask(Method::GET, "/queue", |request| request).await;
    queue
        .and_then(|(_, queue)| queue["backlog"].as_u64())
        .unwrap_or(BACKLOG)
}

/// The same key until there is an answer, however often the server dies meanwhile.
async fn submit(world: &World, dice: &mut Dice, key: String) {
    let is_upload = dice.below(12) == 0;
    let tool = if dice.below(3) == 0 { "warm" } else { "mark" };
    let (params, fails) = some_job(dice);
    for _ in 0..6000 {
        let answer = if is_upload {
            let path = format!("/tools/upload/jobs?name={key}");
            let send = |request: reqwest::RequestBuilder| {
                request.header("Idempotency-Key", &key).multipart(upload())
            };
            world.ask(Method::POST, &path, send).await
        } else {
            let path = format!("/tools/{tool}/jobs?name={key}");
            let send = |request: reqwest::RequestBuilder| {
                request.header("Idempotency-Key", &key).json(&params)
            };
            world.ask(Method::POST, &path, send).await
        };
        if let Some((status, job)) = answer {
            let fails = fails && !is_upload;
            return acknowledged(world, key, status, &job, fails, is_upload).await;
        }
        pause(10).await;
    }
    panic!("{key}: the server does not answer any more");
}

/// Larger than what travels in the store.
fn upload() -> reqwest::multipart::Form {
    let sequence = format!(">long\n{}\n", "MKVLWA".repeat(50 * 1024));
    let part = reqwest::multipart::Part::text(sequence).file_name("data.fasta");
    reqwest::multipart::Form::new().part("data", part)
}

async fn acknowledged(
    world: &World,
    key: String,
    status: u16,
    job: &Value,
    fails: bool,
    is_upload: bool,
) {
    let mut ledger = world.ledger.lock().await;
    if !matches!(status, 200 | 201) {
        return ledger.violation(format!("submission {key} was answered {status}: {job}"));
    }
    ledger.replays += u64::from(status == 200);
    ledger.uploads += u64::from(is_upload);
    let seq = job["seq"].as_i64().unwrap_or_default();
    ledger
        .jobs
        .insert(text(&job["id"]), Acknowledged { key, seq, fails });
}

async fn cancel(world: &World, dice: &mut Dice) {
    let id = {
        let mut ledger = world.ledger.lock().await;
        let Some(id) = dice.pick(&ledger.living()) else {
            return;
        };
        ledger.wishes.insert(id.clone());
        id
    };
    let answer = world
        .ask(Method::POST, &format!("/jobs/{id}/cancel"), |request| {
            request
        })
        .await;
    let at_ns = monotonic_ns();
    let mut ledger = world.ledger.lock().await;
    match answer {
        // The answer came after ten seconds without a commit: nothing was promised.
        Some((200, job)) if !is_final(&job) && job["state"] != "cancelling" => {}
        Some((200, job)) => {
            ledger.saw(&job, false);
            let cancelled = Cancelled {
                state: text(&job["state"]),
                attempt: job["attempt"].as_u64().unwrap_or_default(),
                at_ns,
            };
            ledger.cancelled.insert(id, cancelled);
        }
        Some((404, _)) if ledger.deleted.contains_key(&id) => {}
        Some((status, body)) if status != 500 => {
            ledger.violation(format!("cancelling {id} was answered {status}: {body}"));
        }
        _ => {}
    }
}

async fn delete(world: &World, dice: &mut Dice) {
    let id = {
        let mut ledger = world.ledger.lock().await;
        let known: Vec<String> = ledger.jobs.keys().rev().take(80).cloned().collect();
        let Some(id) = dice
            .pick(&known)
            .filter(|id| !ledger.deleted.contains_key(id))
        else {
            return;
        };
        // Before it is asked for: from now on the job may be gone.
        ledger.deleted.insert(id.clone(), None);
        id
    };
    let path = format!("/jobs/{id}?cancel=true");
    let answer = world.ask(Method::DELETE, &path, |request| request).await;
    let mut ledger = world.ledger.lock().await;
    match answer {
        Some((204 | 404, _)) => drop(ledger.deleted.insert(id, Some(monotonic_ns()))),
        // Still alive after a minute is an answer too.
        Some((409 | 500, _)) | None => {}
        Some((status, body)) => {
            ledger.violation(format!("deleting {id} was answered {status}: {body}"));
        }
    }
}

async fn look(world: &World, dice: &mut Dice) {
    let known: Vec<String> = {
        let ledger = world.ledger.lock().await;
        ledger.jobs.keys().rev().take(120).cloned().collect()
    };
    let Some(id) = dice.pick(&known) else {
        return pause(10).await;
    };
    let had_ended = world.ledger.lock().await.ends.contains_key(&id);
    let answer = world
        .ask(Method::GET, &format!("/jobs/{id}"), |request| request)
        .await;
    let mut ledger = world.ledger.lock().await;
    match answer {
        Some((200, job)) => {
            if matches!(ledger.deleted.get(&id), Some(Some(_))) {
                // The deletion may have been acknowledged while this answer was on its way; the end's check is exact.
                return;
            }
            ledger.saw(&job, had_ended);
        }
        Some((404, _)) if !ledger.deleted.contains_key(&id) => {
            ledger.violation(format!("{id} was acknowledged and is lost"));
        }
        _ => {}
    }
}

/// Pauses now and then, and sees that nothing starts from the moment when nothing runs any more: also across kills.
pub(super) async fn pauser(world: Arc<World>) {
    while world.going_on() {
        for _ in 0..60 {
            if !world.going_on() {
                return;
            }
            pause(200).await;
        }
        world.insist(Method::POST, "/queue/pause").await;
        until_idle(&world).await;
        let before = Marks::read(&world.folder).starts.len();
        pause(600).await;
        let after = Marks::read(&world.folder).starts.len();
        world.insist(Method::POST, "/queue/resume").await;
        let mut ledger = world.ledger.lock().await;
        ledger.pauses += 1;
        if before != after {
            ledger.violation(format!(
                "{} attempts started while the queue was paused",
                after - before
            ));
        }
    }
}

async fn until_idle(world: &World) {
    for _ in 0..6000 {
        let (_, queue) = world.insist(Method::GET, "/queue").await;
        if queue["running"] == 0 || is_stuck(&queue) {
            return;
        }
        pause(20).await;
    }
}
