// <bindu-feedback token>: a vote on an answer
const texts = {
	thumbs: 'Feedback', up: 'Good answer', down: 'Bad answer', comment: 'Tell us more', send: 'Send',
	sending: 'Sending…', thanks: 'Thank you.', failed: 'Not saved. Try again.'
}
const sheet = new CSSStyleSheet()
sheet.replaceSync(`:host{display:inline-block}
button,textarea{font:inherit;border:1px solid;margin:2px;padding:.3em .6em}
[aria-pressed=true]{background:Highlight;color:HighlightText}
textarea{display:block;width:20em;max-width:90%}`)

customElements.define('bindu-feedback', class extends HTMLElement {
	static observedAttributes = ['token']
	#now = {} // saved vote, last click
	#queue = Promise.resolve()

	#text(name, other = texts[name]) {
		return this.getAttribute(name) || other
	}

	connectedCallback() {
		if (this.status) return
		const root = this.attachShadow({mode: 'open'})
		root.adoptedStyleSheets = [sheet]
		const add = (to, tag, part, more) => to.appendChild(
			Object.assign(document.createElement(tag), {part, ariaLabel: this.#text(part), ...more}))
		const button = (to, part, vote, textContent = this.#text(part)) =>
			add(to, 'button', part, {textContent, title: this.#text(part), onclick: () => this.#give(vote ?? this.#now.vote)})
		const group = add(root, 'div', 'thumbs', {role: 'group'})
		this.thumbs = [button(group, 'up', true, '👍'), button(group, 'down', false, '👎')]
		this.more = add(root, 'div', 'more')
		const label = add(this.more, 'label', 'label', {textContent: this.#text('comment')})
		this.comment = add(label, 'textarea', 'comment', {maxLength: 2000})
		button(this.more, 'send')
		this.status = add(root, 'div', 'status', {role: 'status'})
		this.#show('')
	}

	attributeChangedCallback() {
		this.#now = {}
		if (this.status) this.#show(this.comment.value = '')
	}

	#show(text, vote = this.#now.vote) {
		this.thumbs.forEach((thumb, down) => thumb.ariaPressed = vote === !down)
		this.more.hidden = this.#now.vote == null
		this.status.textContent = text
	}

	#give(thumbs_up) {
		const now = this.#now, click = now.click = {}, detail = {thumbs_up, comment: this.comment.value}
		const body = JSON.stringify(detail), Authorization = 'Bearer ' + this.getAttribute('token')
		this.#show(this.#text('sending'), thumbs_up)
		this.#queue = this.#queue.then(async () => {
			let error = this.#text('failed'), src = this.#text('src', new URL(import.meta.url).origin)
			try {
				const reply = await fetch(src.replace(/\/$/, '') + '/v1/feedback', {
					method: 'POST', body, headers: {Authorization, 'Content-Type': 'application/json'},
					keepalive: true, signal: AbortSignal.timeout(1e4)
				})
				if (reply.ok) now.vote = thumbs_up, error = ''
				else error = this.#text(reply.status == 401 ? 'expired' : 'failed', (await reply.json()).error.message) || error
			} catch {}
			if (click == this.#now.click) this.#show(error || this.#text('thanks'))
			this.dispatchEvent(new CustomEvent('bindu-feedback', {detail: {...detail, error}, bubbles: true}))
		})
	}
})
