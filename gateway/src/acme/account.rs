//! The account at the ACME server (RFC 8555, section 7.3).

use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};

use super::error::{AcmeError, type_of};
use super::http::Http;
use super::settings::Settings;
use super::storage::{Lock, Storage, StoredAccount};

/// Loads the account, or creates it.
pub(super) async fn open(
    settings: &Settings,
    storage: &Storage,
    http: &Http,
    lock: &Lock,
) -> Result<Account, AcmeError> {
    let Some(StoredAccount { email, credentials }) = storage.read_account(&settings.directory)? else {
        return create(settings, storage, http, lock).await;
    };
    let account = restore(http, copy_of(&credentials)?).await?;
    if email != settings.email {
        let contacts = contacts(settings);
        match account.update_contacts(&contacts.iter().map(String::as_str).collect::<Vec<_>>()).await {
            Ok(()) => {
                let email = settings.email.clone();
                storage.write_account(&settings.directory, &StoredAccount { email, credentials }, lock)?;
            }
            Err(error) if is_unknown_account(&error) => return create(settings, storage, http, lock).await,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(account)
}

/// Creates an account with a new key.
pub(super) async fn create(
    settings: &Settings,
    storage: &Storage,
    http: &Http,
    lock: &Lock,
) -> Result<Account, AcmeError> {
    let contacts = contacts(settings);
    let contacts: Vec<_> = contacts.iter().map(String::as_str).collect();
    let account = NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
    let binding = settings.binding.as_ref().map(|binding| ExternalAccountKey::new(binding.id.clone(), &binding.key));
    let builder = Account::builder_with_http(Box::new(http.clone()));
    let (account, credentials) = builder.create(&account, settings.directory.clone(), binding.as_ref()).await?;
    let stored = StoredAccount { email: settings.email.clone(), credentials };
    storage.write_account(&settings.directory, &stored, lock)?;
    Ok(account)
}

/// The account of `credentials`. The URLs of the server are requested each time.
pub(super) async fn restore(http: &Http, credentials: AccountCredentials) -> Result<Account, AcmeError> {
    Ok(Account::builder_with_http(Box::new(http.clone())).from_credentials(credentials).await?)
}

/// Whether the server does not know the account, for example since its data was lost.
pub(super) fn is_unknown_account(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if type_of(problem) == "accountDoesNotExist")
}

fn contacts(settings: &Settings) -> Vec<String> {
    settings.email.iter().map(|email| format!("mailto:{email}")).collect()
}

/// The type has no `Clone`.
fn copy_of(credentials: &AccountCredentials) -> Result<AccountCredentials, AcmeError> {
    let copy = serde_json::to_value(credentials).and_then(serde_json::from_value);
    copy.map_err(|_| AcmeError::Storage("the account is damaged".to_owned()))
}
