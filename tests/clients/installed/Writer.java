import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;

/** Writes rows as an application does: see writer.py. Usage: Writer each|kept NAME URL USER PASSWORD */
public class Writer {
    public static void main(String[] args) throws InterruptedException {
        Connection connection = null;
        for (long seq = 1; ; seq++) {
            try {
                if (connection == null) {
                    connection = DriverManager.getConnection(args[2], args[3], args[4]);
                }
                try (PreparedStatement insert = connection.prepareStatement(
                        "INSERT INTO moves (client, seq) VALUES (?, ?) RETURNING inet_server_port()")) {
                    insert.setString(1, args[1]);
                    insert.setLong(2, seq);
                    ResultSet row = insert.executeQuery();
                    row.next();
                    System.out.println("ack " + seq + " " + row.getInt(1));
                }
                if (args[0].equals("each")) {
                    connection.close();
                    connection = null;
                }
            } catch (SQLException error) {
                System.out.println("refused " + error.getSQLState() + " " + error.getMessage().replace('\n', ' '));
                try {
                    if (connection != null) {
                        connection.close();
                    }
                } catch (SQLException ignored) {
                    // It is given up.
                }
                connection = null;
                Thread.sleep(20);
            }
            Thread.sleep(100);
        }
    }
}
