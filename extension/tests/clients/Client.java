import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;

/** An ordinary client: Client WAY METHOD URL. It knows of no proxy, and prints the body of the answer. */
public final class Client {
    private static final String BODY = "hello";

    public static void main(String[] arguments) throws Exception {
        String method = arguments[1];
        URI uri = URI.create(arguments[2]);
        System.out.println(arguments[0].equals("connection") ? byConnection(method, uri) : byClient(method, uri));
    }

    private static String byConnection(String method, URI uri) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) uri.toURL().openConnection();
        connection.setRequestMethod(method);
        if (method.equals("POST")) {
            connection.setDoOutput(true);
            connection.getOutputStream().write(BODY.getBytes(StandardCharsets.UTF_8));
        }
        try (InputStream answer = connection.getInputStream()) {
            return new String(answer.readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    private static String byClient(String method, URI uri) throws Exception {
        HttpRequest.BodyPublisher body = method.equals("POST")
                ? HttpRequest.BodyPublishers.ofString(BODY)
                : HttpRequest.BodyPublishers.noBody();
        HttpRequest request = HttpRequest.newBuilder(uri).method(method, body).build();
        HttpClient client = HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NORMAL).build();
        return client.send(request, HttpResponse.BodyHandlers.ofString()).body();
    }
}
