import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.URI;

/** Fetches each URL with Java's own network code and prints one line for each: what it got, or the exception. */
public class Client {
    public static void main(String[] urls) {
        for (String url : urls) {
            long start = System.nanoTime();
            String result;
            try {
                HttpURLConnection connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
                int status = connection.getResponseCode();
                var stream = status < 400 ? connection.getInputStream() : connection.getErrorStream();
                result = status + " " + new String(stream.readAllBytes()).strip();
            } catch (IOException error) {
                result = error.toString();
            }
            System.out.println((System.nanoTime() - start) / 1_000_000 + " " + result);
        }
    }
}
