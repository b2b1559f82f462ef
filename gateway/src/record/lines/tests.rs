use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// What was written, call by call.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<Vec<u8>>>>);

impl Written {
    fn calls(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().concat()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that takes something only when it is told to, and then what it is told to.
struct Stalled {
    began: Sender<()>,
    go_on: Receiver<io::Result<usize>>,
    written: Written,
}

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.began.send(()).unwrap();
        let count = self.go_on.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
        self.written.write(&bytes[..count])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn stalled() -> (Stalled, Receiver<()>, Sender<io::Result<usize>>, Written) {
    let ((began, begun), (let_go, go_on), written) = (channel(), channel(), Written::default());
    (Stalled { began, go_on, written: written.clone() }, begun, let_go, written)
}

#[test]
fn an_orderly_end_writes_every_line_whole_and_each_threads_in_order() {
    let written = Written::default();
    let (lines, guard) = start(written.clone()).unwrap();
    thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let lines = &lines;
            scope.spawn(move || {
                for number in 0..1000 {
                    lines.push(format!("{name} {number}\n").as_bytes());
                }
            });
        }
    });
    drop(guard);
    let text = written.text();
    for name in ["a", "b", "c"] {
        let of_one = text.lines().filter_map(|line| line.strip_prefix(name)).map(|number| number.trim().parse::<i32>());
        assert!(of_one.map(Result::unwrap).eq(0..1000), "{name}");
    }
    assert_eq!((text.lines().count(), lines.lost()), (3000, 0));
}

#[test]
fn what_gathers_while_the_writer_is_busy_leaves_at_once() {
    let (out, begun, let_go, written) = stalled();
    let (lines, guard) = start(out).unwrap();
    lines.push(b"first\n");
    begun.recv().unwrap();
    for number in 0..1000 {
        lines.push(format!("{number}\n").as_bytes());
    }
    let_go.send(Ok(usize::MAX)).unwrap();
    begun.recv().unwrap();
    let_go.send(Ok(usize::MAX)).unwrap();
    drop(guard);
    assert_eq!((written.calls(), written.text().lines().count()), (2, 1001));
}

#[test]
fn a_reader_that_stalls_costs_lines_and_no_memory() {
    let (out, begun, let_go, written) = stalled();
    let (lines, guard) = start(out).unwrap();
    lines.push(b"first\n");
    begun.recv().unwrap();
    let line = [&[b'a'; 1023][..], b"\n"].concat();
    for _ in 0..MAX_BYTES / line.len() + 5 {
        lines.push(&line);
    }
    assert_eq!(lines.lost(), 5);
    assert!(lines.lock().lines.capacity() <= 2 * MAX_BYTES);
    drop(let_go);
    drop(guard);
    assert_eq!(written.text().lines().count(), 1 + MAX_BYTES / line.len());
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let (out, begun, _let_go, _) = stalled();
    let (lines, guard) = start(out).unwrap();
    lines.push(b"first\n");
    begun.recv().unwrap();
    drop(guard);
    lines.push(b"too late\n");
    assert_eq!(lines.lost(), 1);
}

#[test]
fn what_cannot_be_written_is_counted_and_runs_into_nothing() {
    let (out, begun, let_go, written) = stalled();
    let (lines, guard) = start(out).unwrap();
    lines.push(b"first\n");
    begun.recv().unwrap();
    lines.push(b"second\n");
    lines.push(b"third\n");
    for taken in [usize::MAX, 9] {
        let_go.send(Ok(taken)).unwrap();
        begun.recv().unwrap();
    }
    lines.push(b"fourth\n");
    let_go.send(Err(ErrorKind::StorageFull.into())).unwrap();
    drop(let_go);
    drop(guard);
    assert_eq!((written.text().as_str(), lines.lost()), ("first\nsecond\nth\nfourth\n", 1));
}
