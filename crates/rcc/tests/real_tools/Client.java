import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/**
 * Fetches each URL with Java's own network code and prints one line for each: what it got, or the exception. Behind
 * "offering " stands a URL for the newer of Java's two clients, which offers HTTP/2 on plain HTTP.
 */
public class Client {
    public static void main(String[] urls) {
        for (String url : urls) {
            long start = System.nanoTime();
            String result;
            try {
                if (url.startsWith("offering ")) {
                    URI uri = URI.create(url.substring("offering ".length()));
                    HttpRequest request = HttpRequest.newBuilder(uri).build();
                    var response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
                    result = response.statusCode() + " " + response.version() + " " + response.body().strip();
                    System.out.println((System.nanoTime() - start) / 1_000_000 + " " + result);
                    continue;
                }
                HttpURLConnection connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
                int status = connection.getResponseCode();
                var stream = status < 400 ? connection.getInputStream() : connection.getErrorStream();
                result = status + " " + new String(stream.readAllBytes()).strip();
            } catch (IOException | InterruptedException error) {
                result = error.toString();
            }
            System.out.println((System.nanoTime() - start) / 1_000_000 + " " + result);
        }
    }
}
