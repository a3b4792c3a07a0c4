// java Client.java HOST PORT CA VERSION VISITS: JSSE keeps sessions by itself.
import java.io.FileInputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

public class Client {
    public static void main(String[] args) throws Exception {
        var address = InetAddress.getByName(args[0]);
        int port = Integer.parseInt(args[1]);
        var roots = KeyStore.getInstance(KeyStore.getDefaultType());
        roots.load(null, null);
        try (var ca = new FileInputStream(args[2])) {
            roots.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(ca));
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(roots);
        var context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);

        for (int visit = 0; visit < Integer.parseInt(args[4]); visit++) {
            try (var tcp = new Socket(address, port);
                    var tls = (SSLSocket) context.getSocketFactory().createSocket(tcp, "localhost", port, true)) {
                tls.setEnabledProtocols(new String[] {"TLSv" + args[3]});
                long begin = System.currentTimeMillis();
                tls.startHandshake();
                // A session that was resumed was made before this connection.
                System.out.println(tls.getSession().getCreationTime() < begin ? "reused" : "new");
                tls.getOutputStream().write("hello\n".getBytes());
                tls.getInputStream().readNBytes(6);
            }
            // Creation times are in milliseconds.
            Thread.sleep(5);
        }
    }
}
