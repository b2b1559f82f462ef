use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_getfd};

use super::*;

fn pair() -> (Channel, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    (ours, Channel::new(theirs))
}

#[test]
fn a_message_arrives_with_its_descriptors() {
    let (one, other) = pair();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    one.send(&Message::Waiting("ü\n".to_owned()), &[listener.as_fd()]).unwrap();
    drop(listener);
    let Received::Message(message, mut descriptors) = other.receive(None).unwrap() else { panic!("no message") };
    assert_eq!(message, Message::Waiting("ü\n".to_owned()));
    assert_eq!(descriptors.len(), 1);
    let received = TcpListener::from(descriptors.remove(0));
    assert_eq!(received.local_addr().unwrap(), address);
    let client = TcpStream::connect(address).unwrap();
    assert_eq!(received.accept().unwrap().1, client.local_addr().unwrap());
}

#[test]
fn every_descriptor_is_closed_in_processes_that_are_started() {
    let (one, other) = pair();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    one.send(&Message::Go, &[listener.as_fd()]).unwrap();
    let Received::Message(_, descriptors) = other.receive(None).unwrap() else { panic!("no message") };
    let copy = one.try_clone().unwrap();
    let all = descriptors.iter().map(|fd| fd.as_fd()).chain([one.as_fd(), other.as_fd(), copy.as_fd()]);
    for descriptor in all {
        assert!(fcntl_getfd(descriptor).unwrap().contains(FdFlags::CLOEXEC));
    }
}

#[test]
fn a_closed_end_is_recognised() {
    let (one, other) = pair();
    assert!(!one.is_closed());
    drop(other);
    assert!(one.is_closed());
    assert!(matches!(one.receive(None).unwrap(), Received::Closed));
    assert_eq!(one.send(&Message::Go, &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    // With a message that was never read.
    let (one, other) = pair();
    one.send(&Message::Go, &[]).unwrap();
    drop(other);
    assert!(matches!(one.receive(None).unwrap(), Received::Closed));
}

#[test]
fn receiving_ends_at_the_deadline_and_at_a_shutdown() {
    let (one, _other) = pair();
    let deadline = Instant::now() + Duration::from_millis(20);
    assert!(matches!(one.receive(Some(deadline)).unwrap(), Received::TimedOut));
    assert!(Instant::now() >= deadline);
    let copy = one.try_clone().unwrap();
    let waiting = thread::spawn(move || one.receive(None));
    copy.shutdown();
    assert!(matches!(waiting.join().unwrap().unwrap(), Received::Closed));
}

#[test]
fn too_much_is_refused_before_it_is_sent() {
    let (one, _other) = pair();
    let end = one.as_fd();
    assert!(one.send(&Message::Go, &[end; MAX_DESCRIPTORS + 1]).is_err());
    assert!(one.send(&Message::Waiting("x".repeat(MAX_BYTES)), &[]).is_err());
    one.send(&Message::Go, &[end; MAX_DESCRIPTORS]).unwrap();
}

#[test]
fn what_is_not_a_message_is_an_error() {
    let (one, other) = pair();
    let packet = [IoSlice::new(b"{\"unknown\":1}")];
    sendmsg(&one, &packet, &mut SendAncillaryBuffer::default(), SendFlags::empty()).unwrap();
    assert_eq!(other.receive(None).unwrap_err().kind(), io::ErrorKind::InvalidData);
}
