import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.jar.JarEntry;
import java.util.jar.JarInputStream;

/** Reads places from its class, a resource and the jars within its jar, and the text that is there. */
public class Shop {
    static final String PLACE = "@text@";

    public static void main(String[] args) throws IOException {
        say("class", PLACE);
        say("resource", place(Shop.class.getResourceAsStream("/outer.properties")));
        for (String name : new String[] {"inner", "stored"}) {
            try (var jar = new JarInputStream(Shop.class.getResourceAsStream("/BOOT-INF/lib/" + name + ".jar"))) {
                for (JarEntry entry; (entry = jar.getNextJarEntry()) != null; ) {
                    if (entry.getName().endsWith(".properties")) {
                        say(name, place(new ByteArrayInputStream(jar.readAllBytes())));
                    }
                }
            }
        }
    }

    static String place(InputStream in) throws IOException {
        var properties = new Properties();
        properties.load(in);
        return properties.getProperty("place");
    }

    static void say(String what, String place) throws IOException {
        System.out.println(what + ": " + Files.readString(Path.of(place)).trim() + " at " + place);
    }
}
