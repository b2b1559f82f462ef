-- HS256 for nginx, with libcrypto, which nginx uses for TLS. The key is prepared once.
local base64 = require("ngx.base64")
local cjson = require("cjson.safe")
local ffi = require("ffi")

ffi.cdef([[
typedef struct hmac_ctx_st HMAC_CTX;
typedef struct evp_md_st EVP_MD;
const EVP_MD *EVP_sha256(void);
HMAC_CTX *HMAC_CTX_new(void);
int HMAC_Init_ex(HMAC_CTX *ctx, const void *key, int length, const EVP_MD *md, void *engine);
int HMAC_Update(HMAC_CTX *ctx, const char *data, size_t length);
int HMAC_Final(HMAC_CTX *ctx, unsigned char *digest, unsigned int *length);
int CRYPTO_memcmp(const void *a, const void *b, size_t length);
]])

local C = ffi.C
local digest = ffi.new("unsigned char[32]")
local hmac = C.HMAC_CTX_new()

local jwt = {}

-- Prepares the key.
function jwt.secret(secret)
  assert(C.HMAC_Init_ex(hmac, secret, #secret, C.EVP_sha256(), nil) == 1)
end

local function signed(text, signature)
  if not signature or #signature ~= 32 then
    return false
  end
  local done = C.HMAC_Init_ex(hmac, nil, 0, nil, nil) == 1
    and C.HMAC_Update(hmac, text, #text) == 1
    and C.HMAC_Final(hmac, digest, nil) == 1
  return done and C.CRYPTO_memcmp(digest, signature, 32) == 0
end

-- Decodes a base64url part that is a JSON object to a table.
local function object(part)
  local text = base64.decode_base64url(part)
  local value = text and cjson.decode(text)
  return type(value) == "table" and value or nil
end

local function good(authorization)
  local found = authorization and ngx.re.match(authorization, [[^Bearer ((([\w-]+)\.([\w-]+))\.([\w-]+))$]], "jo")
  if not found then
    return false
  end
  local header = object(found[3])
  if not header or header.alg ~= "HS256" or not signed(found[2], base64.decode_base64url(found[5])) then
    return false
  end
  local claims = object(found[4])
  return claims and type(claims.exp) == "number" and claims.exp > ngx.time()
end

-- Refuses a request without a valid token.
function jwt.check()
  if not good(ngx.var.http_authorization) then
    return ngx.exit(ngx.HTTP_UNAUTHORIZED)
  end
end

return jwt
