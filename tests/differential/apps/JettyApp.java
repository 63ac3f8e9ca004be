import java.io.IOException;
import java.util.Collections;
import javax.servlet.http.HttpServlet;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.eclipse.jetty.http.HttpCompliance;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.servlet.DefaultServlet;
import org.eclipse.jetty.servlet.ServletContextHandler;
import org.eclipse.jetty.servlet.ServletHolder;

/** Jetty before a tree, on two ports: as it is, and as lenient as it can be. */
public class JettyApp {
    static class Echo extends HttpServlet {
        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
            request.getInputStream().readAllBytes();
            for (String name : Collections.list(request.getHeaderNames()))
                for (String value : Collections.list(request.getHeaders(name)))
                    response.getWriter().println(name + ": " + value);
        }
    }

    /** JettyApp ROOT PORT PORT */
    public static void main(String[] arguments) throws Exception {
        var server = new Server();
        HttpCompliance[] compliances = {HttpCompliance.RFC7230, HttpCompliance.LEGACY};
        for (int i = 0; i < compliances.length; i++) {
            var connector = new ServerConnector(server);
            connector.setHost("127.0.0.1");
            connector.setPort(Integer.parseInt(arguments[i + 1]));
            connector.getConnectionFactory(HttpConnectionFactory.class).setHttpCompliance(compliances[i]);
            server.addConnector(connector);
        }
        var context = new ServletContextHandler();
        context.setContextPath("/");
        context.setResourceBase(arguments[0]);
        context.addServlet(new ServletHolder(new Echo()), "/public/echo");
        context.addServlet(new ServletHolder(new Echo()), "/private/echo");
        context.addServlet(new ServletHolder(new DefaultServlet()), "/");
        server.setHandler(context);
        server.start();
        server.join();
    }
}
