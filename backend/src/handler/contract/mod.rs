//! The parts of the description of the API that several handlers share: parameters, errors, and the gateway's own
//! endpoints.

pub(super) mod gateway;
mod parameters;
pub(super) mod refusals;
mod responses;

pub(super) use parameters::{
    DayParameters, FilterParameters, ListParameters, ScheduleParameters, StreamParameters, StreamerListParameters,
};
pub(super) use responses::{
    CalendarErrors, DayErrors, FeedErrors, ListErrors, NewCalendarErrors, PlainErrors, RemovedCalendarErrors,
    ScheduleErrors, StreamErrors, StreamerErrors, StreamerListErrors, shared,
};
