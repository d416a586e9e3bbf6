/*
 * sha256 - digests, by libcrypto, which knows the processor's instructions for it.
 *
 * The only file that knows whose code computes them.
 */
#include "ckpt/ckpt.h"

#include <openssl/evp.h>

#define DIGEST_BYTES 32

/* The library's context under our name; never dereferenced here. */
static EVP_MD_CTX *context_of(sha256 *h)
{
    return (EVP_MD_CTX *)h;
}

static void to_hex(char out[65], const unsigned char digest[DIGEST_BYTES])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < DIGEST_BYTES; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[64] = '\0';
}

thaw_status sha256_begin(sha256 **out)
{
    EVP_MD_CTX *c = EVP_MD_CTX_new();

    if (!c || EVP_DigestInit_ex(c, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(c);
        return thaw_fail(THAW_E_NOMEM, "out of memory for a SHA-256 digest");
    }
    *out = (sha256 *)c;
    return THAW_OK;
}

void sha256_add(sha256 *h, const void *data, size_t n)
{
    THAW_ASSERT(EVP_DigestUpdate(context_of(h), data, n) == 1);
}

void sha256_end(char out[65], sha256 *h)
{
    unsigned char digest[DIGEST_BYTES];

    if (h && out) {
        THAW_ASSERT(EVP_DigestFinal_ex(context_of(h), digest, NULL) == 1);
        to_hex(out, digest);
    }
    EVP_MD_CTX_free(context_of(h));
}

void sha256_hex(char out[65], const void *data, size_t n)
{
    unsigned char digest[DIGEST_BYTES];

    THAW_ASSERT(EVP_Digest(data, n, digest, NULL, EVP_sha256(), NULL) == 1);
    to_hex(out, digest);
}
