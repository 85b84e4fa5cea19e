"""What the simulated model knows about the shop: the sentences that its answers are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["EXTRAS", "TOPICS", "Topic"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One matter that customers write about."""

    keyword: str  # a pattern; the last topic matches everything
    short: str  # the answer in one sentence
    prose: str  # how it works, told at length
    steps: tuple[str, str, str]  # how it works, as a list
    time: str
    cost: str

    def concerns(self, question: str) -> bool:
        """Whether a customer's words are about it."""
        return re.search(self.keyword, question, re.IGNORECASE) is not None


TOPICS: Final = (
    Topic(
        r"refund|money back",
        "Yes, your refund is on its way as soon as the return is scanned",
        "Refunds are made to the means of payment that was used at checkout once the returned goods have reached the "
        "returns centre and have been looked at, so what matters is the return slip that came with the parcel and the "
        "receipt that the carrier handed out, and both can be uploaded in the customer account.",
        ("Open 'My returns' in your account.", "Upload the receipt of the carrier.", "Press 'Pay out refund'."),
        "The money is back in your bank account within 5 business days.",
        "The return is free of charge.",
    ),
    Topic(
        r"late|arrived|where the parcel",
        "Yes, I can trace the parcel for you right away",
        "Deliveries can take longer when the carrier has to sort a parcel a second time, and in such cases a trace can "
        "be opened with the carrier, who then looks for it at the last place where it was scanned and sends it on, or, "
        "if it cannot be found, tells us so that another one can be sent out from the warehouse.",
        ("Open 'Track parcel' in your account.", "Press 'Report as late'.", "Choose a new parcel or your money back."),
        "A trace takes 2 to 3 working days.",
        "A second delivery is at no cost to you.",
    ),
    Topic(
        r"damaged|broken|crack",
        "Yes, we replace damaged goods",
        "Goods that were damaged in transit can be replaced after the damage has been recorded with pictures of the "
        "item and of the packaging, which help us to claim it from the carrier, and after that a replacement is taken "
        "from stock, or the price is paid back where there is none left in the colour that was ordered.",
        ("Take two pictures of the damage.", "Upload them under 'Report damage'.", "Keep the box for the pickup."),
        "The replacement leaves our warehouse within 24 hours.",
        "Pickup and replacement are free of charge.",
    ),
    Topic(
        r"exchange|wrong size|swap",
        "Yes, you can exchange it for another size",
        "An exchange is arranged through the customer account, where another size can be chosen as long as it is in "
        "stock, and the first item travels back with the label that is made there, while the other one is put aside "
        "in the warehouse until the carrier has confirmed that the first parcel was handed in at a shop.",
        ("Choose the new size under 'Exchange'.", "Print the label.", "Hand the parcel in at any parcel shop."),
        "The new size reaches you in 4 to 6 days.",
        "The exchange costs you nothing.",
    ),
    Topic(
        r"cancel",
        "Yes, you can still cancel as long as it has not been packed",
        "A cancellation is possible until the goods have been packed, which can be seen from the status shown in the "
        "customer account, and when they have been packed already the parcel can be refused at the door, in which case "
        "it travels back to the warehouse by itself and is treated there in the same way as any other return.",
        ("Open the order in your account.", "Press 'Cancel order'.", "Wait for the confirmation by e-mail."),
        "You get the confirmation within 30 minutes.",
        "Cancelling is free of charge.",
    ),
    Topic(
        r"invoice",
        "Yes, you can have the invoice with any name you need",
        "Invoices are made out when goods are dispatched and are kept in the customer account, where the name and the "
        "address that are printed on them can be changed before they are downloaded, and an invoice that was already "
        "made out is replaced by a corrected one that carries its own number and refers to the earlier document.",
        ("Open 'Invoices' in your account.", "Enter the company name.", "Press 'Send again'."),
        "The new invoice is in your inbox within 10 minutes.",
        "A corrected invoice is at no cost.",
    ),
    Topic(
        r"log in|password",
        "Yes, I can help you back into your account",
        "Accounts are locked for safety when a wrong password was entered several times, and they open again when a "
        "new password has been chosen through the link that is sent out, which may end up in the folder for unwanted "
        "mail, so it is worth looking there first and asking for another link only when nothing is found.",
        ("Press 'Forgot password'.", "Open the newest link, also in the spam folder.", "Choose a new password."),
        "The link is valid for 60 minutes.",
        "There is no charge for opening an account again.",
    ),
    Topic(
        r"discount",
        "Yes, we can apply the discount afterwards",
        "Discount codes are tied to certain goods and can be entered once for each customer, and they are refused at "
        "checkout when something else in the basket is already reduced, so it is best to have a look at the basket, "
        "while a discount that was refused by mistake can also be taken off the price after the purchase was made.",
        ("Copy the code from the e-mail.", "Enter it under 'Add discount later'.", "Check the new total."),
        "The difference is paid back within 3 working days.",
        "Adding it later costs you nothing.",
    ),
    Topic(
        r"warranty|stopped working|noise",
        "Yes, the warranty covers that",
        "Faults that were not caused by a fall or by water are covered, and the item is sent in to the workshop with a "
        "description of what happens and when, where it is looked at and repaired, or exchanged for another one when a "
        "repair makes no sense, so the description should be as exact as possible and the receipt should be enclosed.",
        (
            "Describe the fault under 'Warranty'.",
            "Print the label for the workshop.",
            "Send the item with its receipt.",
        ),
        "A repair takes 7 to 10 days.",
        "Repair and shipping are free of charge.",
    ),
    Topic(
        r"address",
        "Yes, I can change the delivery address",
        "Another delivery address can be entered as long as the parcel has not been handed to the carrier, and when it "
        "has been handed over the carrier can be told to leave it at a parcel shop or with a neighbour, which is done "
        "with the tracking number on the page of the carrier and not in the customer account at our end.",
        ("Open the order in your account.", "Press 'Change address'.", "Confirm the new address."),
        "The change takes effect within 2 hours.",
        "Changing it is at no cost.",
    ),
    Topic(
        r"missing",
        "Yes, we send you the missing parts",
        "Parts that are missing from a box are sent separately, for which the list of parts in the manual is used, or "
        "the drawing of it that can be found on the page of the product, where each part has a letter, and the letters "
        "of the parts that are needed are then given to the spare parts desk, which keeps most of them in stock.",
        ("Find the letter of the part in the drawing.", "Order it under 'Spare parts'.", "Download the manual there."),
        "The parts arrive in 3 to 4 days.",
        "Missing parts are free of charge.",
    ),
    Topic(
        r"",
        "Yes, we can sort this out",
        "Most matters can be settled in the customer account, where orders, parcels and payments are listed with what "
        "can be done about each of them, and where that is not enough a message can be left there with a description "
        "of what has happened, which is then looked at together with everything that is known about the order.",
        ("Open your account.", "Choose the order.", "Press 'Get help'."),
        "We come back to you within 24 hours.",
        "Our help is free of charge.",
    ),
)

# What may be added whatever the topic; {name} and {order} are filled in when the customer gave them
EXTRAS: Final[dict[str, tuple[str, ...]]] = {
    "greeting": ("Hi {name},", "Hello {name},", "Dear {name},"),
    "anonymous": ("Hello,", "Good day,", "Dear customer,"),
    "empathy": (
        "I am sorry for the trouble.",
        "I apologise for the inconvenience.",
        "Sorry about this, I understand how annoying it is.",
    ),
    "preamble": (
        "Thank you for contacting the customer care team about your recent purchase; your message has been received "
        "and was forwarded to the department in charge.",
        "With reference to your message, please find below some general information on the matter that you have "
        "brought to our attention.",
    ),
    "order_known": ("I have your order {order} in front of me.", "This is about order {order}."),
    "order_asked": ("Could you send me your order number?", "Please tell me your order number."),
    "human": (
        "If you would rather talk to a person, a colleague can call you.",
        "I can also hand you over to a human colleague.",
        "You can speak to a real person by phone at any time.",
    ),
    "follow_up": ("Does this solve it for you?", "Is there anything still unclear?", "Shall I do this for you now?"),
    "policy": (
        "According to section 7 of our terms and conditions, claims of this kind are subject to the rules laid down "
        "there in the version in force at the time of purchase.",
        "Pursuant to our policy, section 4, requests are examined case by case and without recognition of any legal "
        "obligation.",
    ),
    "jargon": (
        "An RMA has been queued in the ERP and the SLA clock of tier-2 has started.",
        "The SKU is flagged in the WMS, pending an RMA by tier-2.",
    ),
    "upsell": (
        "By the way, our Premium membership includes many exclusive offers.",
        "You may also like the bundles in our current sale.",
    ),
    "filler": (
        "We value your business, thank you for your patience and understanding, and hope that you will continue to "
        "enjoy shopping with us.",
        "As a valued customer you are always at the heart of everything we do, and we thank you for your trust.",
    ),
}
