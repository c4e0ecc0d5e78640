//! Several futures at once, on one task. For look-ups in a handful of accounts and Regions; no dependency needed.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Waits for all; the results are in the order of the futures.
pub(crate) async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(move |context| {
        let mut waiting = false;
        for (future, result) in running.iter_mut().zip(&mut results) {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *result = Some(value),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            return Poll::Pending;
        }
        Poll::Ready(results.iter_mut().filter_map(Option::take).collect())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::Barrier;

    #[tokio::test]
    async fn results_keep_their_order_and_waits_overlap() {
        // Each waits for the others: one after the other, the first would wait for ever.
        let all = Barrier::new(3);
        let all = &all;
        let pauses = [30_u64, 1, 20];
        let ended = join_all(pauses.map(|pause| async move {
            all.wait().await;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            pause
        }));
        let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
        assert_eq!(ended.unwrap(), pauses);
    }
}
