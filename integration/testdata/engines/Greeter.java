import java.io.IOException;
import java.nio.charset.StandardCharsets;

/** Greets with a text from its own jar and the place of its Java. */
public class Greeter {
    public static void main(String[] args) throws IOException {
        try (var in = Greeter.class.getResourceAsStream("/greeting.txt")) {
            String greeting = new String(in.readAllBytes(), StandardCharsets.UTF_8).trim();
            System.out.println(greeting + ", " + args[0] + ", from " + System.getProperty("java.home"));
        }
    }
}
