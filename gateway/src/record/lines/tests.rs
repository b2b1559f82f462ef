use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// Records each write.
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

/// An output whose writes block until the test provides their result.
struct Stalled {
    began: Sender<()>,
    results: Receiver<io::Result<usize>>,
    written: Written,
}

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.began.send(()).unwrap();
        let count = self.results.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
        self.written.write(&bytes[..count])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn stalled() -> (Stalled, Receiver<()>, Sender<io::Result<usize>>, Written) {
    let ((began, begun), (resume, results), written) = (channel(), channel(), Written::default());
    (Stalled { began, results, written: written.clone() }, begun, resume, written)
}

#[test]
fn shutdown_writes_all_lines_in_the_order_of_each_thread() {
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
        let numbers =
            text.lines().filter_map(|line| line.strip_prefix(name)).map(|number| number.trim().parse::<i32>());
        assert!(numbers.map(Result::unwrap).eq(0..1000), "{name}");
    }
    assert_eq!((text.lines().count(), lines.lost()), (3000, 0));
}

#[test]
fn lines_buffered_during_a_write_are_written_together() {
    let (out, begun, resume, written) = stalled();
    let (lines, guard) = start(out).unwrap();
    lines.push(b"first\n");
    begun.recv().unwrap();
    for number in 0..1000 {
        lines.push(format!("{number}\n").as_bytes());
    }
    resume.send(Ok(usize::MAX)).unwrap();
    begun.recv().unwrap();
    resume.send(Ok(usize::MAX)).unwrap();
    drop(guard);
    assert_eq!((written.calls(), written.text().lines().count()), (2, 1001));
}

#[test]
fn a_stalled_reader_loses_lines_and_memory_is_bounded() {
    let (out, begun, resume, written) = stalled();
    let (lines, guard) = start(out).unwrap();
    lines.push(b"first\n");
    begun.recv().unwrap();
    let line = [&[b'a'; 1023][..], b"\n"].concat();
    for _ in 0..MAX_BYTES / line.len() + 5 {
        lines.push(&line);
    }
    assert_eq!(lines.lost(), 5);
    assert!(lines.lock().lines.capacity() <= 2 * MAX_BYTES);
    drop(resume);
    drop(guard);
    assert_eq!(written.text().lines().count(), 1 + MAX_BYTES / line.len());
}

#[test]
fn shutdown_does_not_wait_for_a_stalled_reader() {
    let (out, begun, _resume, _) = stalled();
    let (lines, guard) = start(out).unwrap();
    lines.push(b"first\n");
    begun.recv().unwrap();
    drop(guard);
    lines.push(b"too late\n");
    assert_eq!(lines.lost(), 1);
}

#[test]
fn lost_lines_are_counted_and_a_partial_line_is_terminated() {
    let (out, begun, resume, written) = stalled();
    let (lines, guard) = start(out).unwrap();
    lines.push(b"first\n");
    begun.recv().unwrap();
    lines.push(b"second\n");
    lines.push(b"third\n");
    for taken in [usize::MAX, 9] {
        resume.send(Ok(taken)).unwrap();
        begun.recv().unwrap();
    }
    lines.push(b"fourth\n");
    resume.send(Err(ErrorKind::StorageFull.into())).unwrap();
    drop(resume);
    drop(guard);
    assert_eq!((written.text().as_str(), lines.lost()), ("first\nsecond\nth\nfourth\n", 1));
}
