// Asks the scene `tls` again and again with the session of the first time: who answered, and whether the
// session was known there.
const tls = require('node:tls')

const [port, times] = process.argv.slice(2).map(Number)

function ask (session) {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false, session })
    socket.setEncoding('utf8').on('data', (more) => { text += more })
    socket.on('error', reject)
    socket.on('secureConnect', () => { session ??= socket.getSession() })
    socket.on('close', () => resolve([text.trim(), session]))
  })
}

async function main () {
  let session
  for (let time = 0; time < times; time++) {
    const [text, of] = await ask(session)
    session = of
    console.log(text)
  }
}

main()
