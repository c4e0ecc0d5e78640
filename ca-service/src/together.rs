//! Several futures at once, on one task: each place is asked while the others are.

/// All outputs, in no particular order.
pub(crate) async fn all_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    until(futures, |_| false).await
}

/// The outputs so far when one of them is enough, or all of them; what still runs then is dropped.
pub(crate) async fn until<F: Future>(
    futures: impl Iterator<Item = F>,
    is_enough: impl Fn(&F::Output) -> bool,
) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        let mut enough = false;
        running.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                enough |= is_enough(&output);
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if enough || running.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_is_enough_does_not_wait_for_one_that_never_ends() {
        let answer = |n: u8| async move {
            if n == 0 {
                std::future::pending::<()>().await;
            }
            n
        };
        assert_eq!(
            until([0, 7].map(answer).into_iter(), |n| *n == 7).await,
            [7]
        );
        assert_eq!(all_of([1, 2].map(answer).into_iter()).await, [1, 2]);
        assert!(all_of([0; 0].map(answer).into_iter()).await.is_empty());
    }
}
