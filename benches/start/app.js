// The program that benches/start.sh runs under each primary: it answers with its pid.
const http = require('node:http')

http.createServer((req, res) => res.end(String(process.pid))).listen(process.env.PORT, '127.0.0.1')
