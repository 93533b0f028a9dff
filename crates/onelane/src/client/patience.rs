use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{ClientError, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long to keep asking a server that is away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience(pub(crate) Duration);

impl Patience {
    /// Asks until there is an answer, an error that waiting can't mend, or no patience left.
    /// `notice` hears of the first failure of a row.
    pub(crate) async fn ask<T>(
        self,
        notice: impl Fn(&ClientError),
        question: impl AsyncFn() -> Result<T>,
    ) -> Result<T> {
        let since = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match question().await {
                Err(error) if error.is_passing() => error,
                answer => return answer,
            };
            if pause == FIRST_PAUSE {
                notice(&error);
            }
            let rest = error.retry_after().unwrap_or(pause);
            if since.elapsed() + rest > self.0 {
                return Err(error);
            }
            sleep(rest).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn away() -> ClientError {
        ClientError::NoServer {
            url: "http://x".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_server_that_comes_back_is_waited_for_and_noticed_once() {
        let (asked, noticed) = (Cell::new(0), Cell::new(0));
        let question = async || {
            asked.set(asked.get() + 1);
            if asked.get() < 3 {
                Err(away())
            } else {
                Ok(asked.get())
            }
        };
        let answer = Patience(Duration::from_secs(10))
            .ask(|_| noticed.set(noticed.get() + 1), question)
            .await;
        assert_eq!((answer.unwrap(), noticed.get()), (3, 1));
    }

    #[tokio::test]
    async fn patience_ends() {
        let answer: Result<()> = Patience(Duration::ZERO)
            .ask(|_| (), async || Err(away()))
            .await;
        assert!(matches!(answer, Err(ClientError::NoServer { .. })));
    }
}
