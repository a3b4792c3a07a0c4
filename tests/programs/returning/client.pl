# perl client.pl HOST PORT CA VERSION VISITS: comes back with what IO::Socket::SSL's cache holds.
use strict;
use warnings;
use IO::Socket::SSL;

my ($host, $port, $ca, $version, $visits) = @ARGV;
my $context = IO::Socket::SSL::SSL_Context->new(
    SSL_ca_file            => $ca,
    SSL_version            => 'TLSv1_' . substr($version, -1),
    SSL_verify_mode        => SSL_VERIFY_PEER,
    SSL_session_cache_size => 8,
) or die $SSL_ERROR;
for (1 .. $visits) {
    my $tls = IO::Socket::SSL->new(
        PeerHost            => $host,
        PeerPort            => $port,
        SSL_hostname        => 'localhost',
        SSL_verifycn_name   => 'localhost',
        SSL_verifycn_scheme => 'http',
        SSL_reuse_ctx       => $context,
    ) or die $SSL_ERROR;
    print $tls->get_session_reused ? "reused\n" : "new\n";
    print {$tls} "hello\n";
    sysread($tls, my $line, 6);
    close($tls);
}
