// Search where pages are opened from disk: browsers start no Worker from file://, so that a hidden frame takes its place.
(() => {
  if (location.protocol !== "file:") return
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = "<!doctype html><body></body>"
      frame.onload = () => {
        const inner = (this.inner = frame.contentWindow)
        inner.postMessage = (data) => {
          const event = new MessageEvent("message", { data })
          this.dispatchEvent(event)
          if (this.onmessage) this.onmessage(event)
        }
        const load = (src) => new Promise((resolve, reject) => {
          const script = inner.document.createElement("script")
          Object.assign(script, { src, onload: resolve, onerror: reject })
          inner.document.body.append(script)
        })
        inner.importScripts = (...urls) => urls.reduce((done, src) => done.then(() => load(src)), Promise.resolve())
        load(new URL(url, location.href).href).then(() => {
          this.ready = true
          this.waiting.splice(0).forEach((data) => this.deliver(data))
        })
      }
      document.body.append(frame)
      this.frame = frame
    }
    deliver(data) {
      const event = new this.inner.MessageEvent("message", { data })
      this.inner.dispatchEvent(event)
    }
    postMessage(data) {
      if (this.inner && this.ready) this.deliver(data)
      else this.waiting.push(data)
    }
    terminate() {
      this.frame.remove()
    }
  }
})()
