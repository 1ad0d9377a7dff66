// SPDX-License-Identifier: MIT
// Floor: 6
#include "tls/failure.hpp"

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include <cerrno>
#include <cstdio>

namespace whorl::tls::detail {

namespace {

// Source: X509_STORE_CTX_get_error(3).
Error certificate_error(long result) noexcept {
    switch (result) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
        case X509_V_ERR_CERT_NOT_YET_VALID:
            return Error::tls_expired;
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH:
            return Error::tls_wrong_name;
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        case X509_V_ERR_CERT_UNTRUSTED:
            return Error::tls_untrusted;
        default:
            return Error::tls_refused;
    }
}

Error protocol_error(int reason) noexcept {
    switch (reason) {
        case SSL_R_NO_SHARED_CIPHER:
        case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
        case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
        case SSL_R_NO_SUITABLE_KEY_SHARE:
        case SSL_R_NO_APPLICATION_PROTOCOL:
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_NO_PROTOCOLS_AVAILABLE:
        case SSL_R_VERSION_TOO_LOW:
        case SSL_R_INAPPROPRIATE_FALLBACK:
            return Error::tls_mismatch;
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
            return Error::tls_no_certificate;
        case ERR_R_MALLOC_FAILURE:
            return Error::from_errno(ENOMEM);
        default:
            break;
    }
    // The peer's alerts, by number.
    constexpr int alert_count = 256;
    const bool alert =
        reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + alert_count;
    return alert ? Error::tls_alert : Error::tls_malformed;
}

}  // namespace

Error failure_of(const SSL& ssl, char* text, std::size_t size) noexcept {
    const unsigned long last = ERR_peek_last_error();
    const int reason = ERR_GET_REASON(last);
    const bool ours = ERR_GET_LIB(last) == ERR_LIB_SSL;
    const char* said = ERR_reason_error_string(last);
    Error error = last != 0 ? protocol_error(reason) : Error(Error::tls_malformed);
    if (ours && reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        const long result = SSL_get_verify_result(&ssl);
        error = certificate_error(result);
        said = X509_verify_cert_error_string(result);
    }
    static_cast<void>(std::snprintf(text, size, "%s", said != nullptr ? said : "no reason given"));
    ERR_clear_error();
    return error;
}

void describe(const char* what, char* text, std::size_t size) noexcept {
    const unsigned long first = ERR_peek_error();
    const char* said = first != 0 ? ERR_reason_error_string(first) : nullptr;
    if (ERR_SYSTEM_ERROR(first)) said = Error::from_errno(ERR_GET_REASON(first)).text();
    const char* const between = said != nullptr ? ": " : "";
    static_cast<void>(
        std::snprintf(text, size, "%s%s%s", what, between, said != nullptr ? said : ""));
    ERR_clear_error();
}

}  // namespace whorl::tls::detail
