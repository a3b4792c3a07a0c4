/* mbedtls HOST PORT CA VERSION VISITS: comes back with the session of the last connection. */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check(int code, const char *what) {
    if (code < 0) {
        fprintf(stderr, "%s: -0x%04x\n", what, -code);
        exit(1);
    }
    return code;
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_x509_crt ca;
    mbedtls_ssl_config config;
    mbedtls_ssl_session session;
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_x509_crt_init(&ca);
    mbedtls_ssl_config_init(&config);
    mbedtls_ssl_session_init(&session);
    check(mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0), "seed");
    check(mbedtls_x509_crt_parse_file(&ca, argv[3]), "the CA");
    check(mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                      MBEDTLS_SSL_PRESET_DEFAULT), "config");
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    mbedtls_ssl_conf_ca_chain(&config, &ca, NULL);

    int visits = atoi(argv[5]);
    unsigned char before[48] = {0};
    for (int visit = 0; visit < visits; visit++) {
        mbedtls_net_context tcp;
        mbedtls_ssl_context tls;
        unsigned char line[6];
        mbedtls_net_init(&tcp);
        mbedtls_ssl_init(&tls);
        check(mbedtls_net_connect(&tcp, argv[1], argv[2], MBEDTLS_NET_PROTO_TCP), "connect");
        check(mbedtls_ssl_setup(&tls, &config), "setup");
        check(mbedtls_ssl_set_hostname(&tls, "localhost"), "host name");
        if (visit > 0) check(mbedtls_ssl_set_session(&tls, &session), "set session");
        mbedtls_ssl_set_bio(&tls, &tcp, mbedtls_net_send, mbedtls_net_recv, NULL);
        check(mbedtls_ssl_handshake(&tls), "handshake");
        check(mbedtls_ssl_write(&tls, (const unsigned char *)"hello\n", 6), "write");
        for (int read = 0; read < 6;) read += check(mbedtls_ssl_read(&tls, line, 6 - read), "read");
        mbedtls_ssl_session_free(&session);
        mbedtls_ssl_session_init(&session);
        check(mbedtls_ssl_get_session(&tls, &session), "get session");
        /* A session that was resumed keeps its master secret. */
        int same = memcmp(before, session.master, sizeof before) == 0;
        memcpy(before, session.master, sizeof before);
        puts(same ? "reused" : "new");
        mbedtls_ssl_close_notify(&tls);
        mbedtls_ssl_free(&tls);
        mbedtls_net_free(&tcp);
    }
    return 0;
}
