/* wolfssl HOST PORT CA VERSION VISITS: comes back with the session of the last connection. */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void check(int is_good, const char *what) {
    if (!is_good) {
        fprintf(stderr, "%s failed\n", what);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    wolfSSL_Init();
    int newest = strcmp(argv[4], "1.3") == 0;
    WOLFSSL_CTX *context = wolfSSL_CTX_new(newest ? wolfTLSv1_3_client_method() : wolfTLSv1_2_client_method());
    check(context != NULL, "context");
    check(wolfSSL_CTX_load_verify_locations(context, argv[3], NULL) == SSL_SUCCESS, "the CA");
    wolfSSL_CTX_UseSessionTicket(context);
    WOLFSSL_SESSION *session = NULL;
    int visits = atoi(argv[5]);
    for (int visit = 0; visit < visits; visit++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
        inet_pton(AF_INET, argv[1], &address.sin_addr);
        int tcp = socket(AF_INET, SOCK_STREAM, 0);
        check(connect(tcp, (struct sockaddr *)&address, sizeof address) == 0, "connect");
        WOLFSSL *tls = wolfSSL_new(context);
        wolfSSL_UseSNI(tls, WOLFSSL_SNI_HOST_NAME, "localhost", 9);
        check(wolfSSL_check_domain_name(tls, "localhost") == SSL_SUCCESS, "host name");
        if (session != NULL) wolfSSL_set_session(tls, session);
        wolfSSL_set_fd(tls, tcp);
        if (wolfSSL_connect(tls) != SSL_SUCCESS) {
            fprintf(stderr, "handshake: %d\n", wolfSSL_get_error(tls, 0));
            exit(1);
        }
        char line[6];
        check(wolfSSL_write(tls, "hello\n", 6) == 6, "write");
        for (int have = 0; have < 6;) {
            int read = wolfSSL_read(tls, line + have, 6 - have);
            if (read <= 0) {
                fprintf(stderr, "read: %d\n", wolfSSL_get_error(tls, 0));
                exit(1);
            }
            have += read;
        }
        puts(wolfSSL_session_reused(tls) ? "reused" : "new");
        wolfSSL_SESSION_free(session);
        session = wolfSSL_get1_session(tls);
        wolfSSL_shutdown(tls);
        wolfSSL_free(tls);
        close(tcp);
    }
    return 0;
}
