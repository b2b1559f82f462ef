//! The domain's types. Each is validated when it is created. They know neither HTTP nor a database.

mod calendar;
mod day;
mod days;
mod delivered;
mod duplicate;
mod entry;
mod holodule;
mod identifier;
mod needle;
mod password_form;
mod precondition;
mod revocation;
mod roles;
mod saved;
mod schedule;
mod selection;
mod streamer;
mod user;
mod valid;

pub use calendar::{CALENDAR_LABEL_LIMIT, CALENDARS_LIMIT, Calendar, CalendarKey, KeyHash, NotAKeyHash};
pub use day::{Day, NotADay, WallClock};
pub use days::{DAYS_LIMIT, Days};
pub use delivered::{Delivered, DeliveredEvent, DeliveredRevision, SEQUENCE_LIMIT};
pub use duplicate::{DuplicateDocument, DuplicateVideo};
pub use entry::{Entry, EntryTime};
pub use holodule::{Holodule, Public, effective_code};
pub use identifier::{Code, Identifier, Invalid, KEY_LIMIT, VideoId};
pub use needle::{NEEDLE_LIMIT, Needle, NotANeedle, fold, fold_together};
pub use password_form::PasswordForm;
pub use precondition::{Precondition, Versions, entity_tag, tag_of};
pub use revocation::{AccountStatus, Logout, NotATokenId, PasswordMark, TOKEN_ID_LIMIT, TokenId};
pub use roles::{
    InvalidRoles, ROLE_LIMIT, ROLES_LIMIT, Role, Roles, RolesChange, RolesRefused, SCOPE_LIMIT, StoredRoles,
};
pub use saved::{Saved, SavedUser, Tally};
pub use schedule::{SCHEDULES_LIMIT, Schedule, ScheduleQuery};
pub use selection::{FILTER_VALUES_LIMIT, Filter, PAGE_LIMIT, PageRequest, Position, Selection, Sort, datetimes_of};
pub use streamer::{Streamer, Streamers, check_streamer};
pub use user::{
    NewUser, NotAUsername, RESERVED_PREFIX, StoredPassword, StoredUser, USERNAME_LIMIT, UserSummary, Username,
};
pub use valid::{DESCRIPTION_LIMIT, FURTHER_LIMIT, NAME_LIMIT, TITLE_LIMIT, URL_LIMIT, ValidHolodule, WEIGHT_LIMIT};
