import io.spiffe.bundle.BundleSource;
import io.spiffe.spiffeid.SpiffeId;
import io.spiffe.spiffeid.TrustDomain;
import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.workloadapi.*;
import java.time.Duration;

/** A workload in Java: sources of the official library, whose gRPC writes the path of the socket into :authority. */
public class Workload {
  public static void main(String[] args) throws Exception {
    String address = "unix:" + args[0];
    TrustDomain trustDomain = SpiffeId.parse(args[1]).getTrustDomain();
    DefaultX509Source.X509SourceOptions options =
        DefaultX509Source.X509SourceOptions.builder()
            .spiffeSocketPath(address)
            .initTimeout(Duration.ofSeconds(20))
            .build();
    try (DefaultX509Source source = DefaultX509Source.newSource(options)) {
      System.out.println("x509 " + source.getX509Svid().getSpiffeId() + " " + source.getX509Svid().getChain().size());
      System.out.println("bundle " + source.getBundleForTrustDomain(trustDomain).getX509Authorities().size());
    }
    try (WorkloadApiClient client =
        DefaultWorkloadApiClient.newClient(
            DefaultWorkloadApiClient.ClientOptions.builder().spiffeSocketPath(address).build())) {
      JwtSvid token = client.fetchJwtSvid("db");
      System.out.println("jwt " + token.getSpiffeId());
      System.out.println("validated " + client.validateJwtSvid(token.getToken(), "db").getSpiffeId());
    }
    System.exit(0);
  }
}
