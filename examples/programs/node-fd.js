// A Node script that listens on the settings' first listener, by its descriptor:
//
//     mcluster start examples/programs/node-fd.js --listen 127.0.0.1:3000 -i 2
//
// As a cluster's worker it is dealt connections by the primary, by any policy. Without a cluster
// (`systemd-socket-activate -l 3000 node node-fd.js`) it accepts from the socket itself.
const http = require('node:http');

const server = http.createServer((request, response) => {
  response.end(`Handled by process ${process.pid}\n`);
});
server.listen({ fd: 3 });
