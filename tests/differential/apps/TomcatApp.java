import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.Collections;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.servlets.DefaultServlet;
import org.apache.catalina.startup.Tomcat;

/** Tomcat before a tree, on three ports: as it is, `%2f` passed on, and `%2f` and `\` read as slashes. */
public class TomcatApp {
    static class Echo extends HttpServlet {
        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
            request.getInputStream().readAllBytes();
            for (String name : Collections.list(request.getHeaderNames()))
                for (String value : Collections.list(request.getHeaders(name)))
                    response.getWriter().println(name + ": " + value);
        }
    }

    /** TomcatApp ROOT BASE PORT PORT PORT */
    public static void main(String[] arguments) throws Exception {
        var tomcat = new Tomcat();
        tomcat.setBaseDir(arguments[1]);
        String[] slashes = {"reject", "passthrough", "decode"};
        for (int i = 0; i < slashes.length; i++) {
            var connector = new Connector();
            connector.setPort(Integer.parseInt(arguments[i + 2]));
            connector.setProperty("address", "127.0.0.1");
            connector.setProperty("maxKeepAliveRequests", "-1");
            connector.setEncodedSolidusHandling(slashes[i]);
            if (slashes[i].equals("decode")) {
                connector.setAllowBackslash(true);
                connector.setProperty("relaxedPathChars", "\\^`{|}[]\"<>");
            }
            tomcat.getService().addConnector(connector);
        }
        var context = tomcat.addContext("", arguments[0]);
        Tomcat.addServlet(context, "files", new DefaultServlet());
        Tomcat.addServlet(context, "echo", new Echo());
        context.addServletMappingDecoded("/", "files");
        context.addServletMappingDecoded("/public/echo", "echo");
        context.addServletMappingDecoded("/private/echo", "echo");
        tomcat.start();
        tomcat.getServer().await();
    }
}
