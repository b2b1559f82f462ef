//! What the handlers share in the description of the API: parameters, errors, and the gateway's own endpoints.

pub(super) mod gateway;
mod parameters;
mod responses;

pub(super) use parameters::{
    DayParameters, FilterParameters, ListParameters, ScheduleParameters, StreamParameters, StreamerListParameters,
};
pub(super) use responses::{
    CalendarErrors, DayErrors, FeedErrors, ListErrors, NewCalendarErrors, PlainErrors, RemovedCalendarErrors,
    StreamErrors, StreamerErrors, StreamerListErrors, shared,
};
