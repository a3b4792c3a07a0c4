# ruby client.rb HOST PORT CA VERSION VISITS: comes back with the session of the last connection.
require 'openssl'
require 'socket'

host, port, ca, version, visits = ARGV
context = OpenSSL::SSL::SSLContext.new
context.ca_file = ca
context.min_version = context.max_version = OpenSSL::SSL.const_get("TLS#{version.tr('.', '_')}_VERSION")
session = nil
visits.to_i.times do
  tls = OpenSSL::SSL::SSLSocket.new(TCPSocket.new(host, port), context)
  tls.sync_close = true
  tls.hostname = 'localhost'
  tls.session = session if session
  tls.connect
  puts tls.session_reused? ? 'reused' : 'new'
  tls.write("hello\n")
  tls.readpartial(6)
  session = tls.session
  tls.close
end
