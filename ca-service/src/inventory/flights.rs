//! Questions under way: who asks what is being asked already waits for that answer instead.
//! A question is asked to its end even when everybody who waited has gone: the answer is kept by the asker.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// One running question for each key.
pub(super) struct Flights<K, V>(Arc<Mutex<HashMap<K, Answer<V>>>>);

type Answer<V> = watch::Receiver<Option<V>>;

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Waits for the answer to `key`; where nobody asks yet, what `start` gives is run.
    ///
    /// # Errors
    /// Those of `start`, which is called only where nobody asks yet.
    pub(super) fn join<E, F>(
        &self,
        key: &K,
        start: impl FnOnce() -> Result<F, E>,
    ) -> Result<Waiting<V>, E>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = lock(&self.0);
        let answer = match under_way.get(key) {
            Some(answer) => answer.clone(),
            None => {
                let answer = self.spawn(key.clone(), start()?);
                under_way.insert(key.clone(), answer.clone());
                answer
            }
        };
        Ok(Waiting(answer))
    }

    fn spawn(&self, key: K, work: impl Future<Output = V> + Send + 'static) -> Answer<V> {
        let (sender, answer) = watch::channel(None);
        let under_way = Arc::clone(&self.0);
        tokio::spawn(async move {
            let _landed = Landed { under_way, key };
            let value = work.await;
            let _ = sender.send(Some(value));
        });
        answer
    }
}

/// Somebody who waits for an answer.
pub(super) struct Waiting<V>(Answer<V>);

impl<V: Clone> Waiting<V> {
    /// None: the question ended without an answer.
    pub(super) async fn answer(mut self) -> Option<V> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Takes the question off the list however it ends.
struct Landed<K: Hash + Eq, V> {
    under_way: Arc<Mutex<HashMap<K, Answer<V>>>>,
    key: K,
}

impl<K: Hash + Eq, V> Drop for Landed<K, V> {
    fn drop(&mut self) {
        lock(&self.under_way).remove(&self.key);
    }
}

fn lock<K, V>(under_way: &Mutex<HashMap<K, V>>) -> MutexGuard<'_, HashMap<K, V>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn who_asks_the_same_shares_one_answer_even_when_the_first_has_gone() {
        let flights = Flights::<u8, u8>::default();
        let (asked, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = |value: u8| {
            let (asked, answered) = (Arc::clone(&asked), Arc::clone(&answered));
            flights.join(&1, || {
                asked.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Infallible>(async move {
                    answered.notified().await;
                    value
                })
            })
        };
        drop(ask(7).unwrap());
        let second = ask(8).unwrap();
        answered.notify_one();
        assert_eq!(second.answer().await, Some(7));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // The list is empty again: the next question is a new one.
        answered.notify_one();
        assert_eq!(ask(9).unwrap().answer().await, Some(9));
    }

    #[tokio::test]
    async fn a_question_that_may_not_be_asked_is_not_under_way() {
        let flights = Flights::<u8, u8>::default();
        let refused = flights.join(&1, || Err::<std::future::Ready<u8>, _>("no"));
        assert_eq!(refused.err(), Some("no"));
        let asked = flights.join(&1, || Ok::<_, Infallible>(std::future::ready(3)));
        assert_eq!(asked.unwrap().answer().await, Some(3));
    }
}
